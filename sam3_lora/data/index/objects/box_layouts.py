"""Finds out from masks what the four numbers of boxes mean, where they are not COCO's left, top, width and height."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.index.gather import Box, GatheredImage
from sam3_lora.data.index.objects.shapes import box_iou

AS_IN_COCO, CENTERS, CORNERS = "as-in-coco", "as-centers", "as-corners"
# What four numbers may mean -> the box (left, top, width, height) that they then are.
LAYOUTS: dict[str, Callable[[float, float, float, float], Box]] = {
    AS_IN_COCO: lambda a, b, c, d: (a, b, c, d),
    CENTERS: lambda a, b, c, d: (a - c / 2, b - d / 2, c, d),
    CORNERS: lambda a, b, c, d: (a, b, c - a, d - b),
    "as-rows-and-columns": lambda a, b, c, d: (b, a, d, c),
    "as-corners-in-rows-and-columns": lambda a, b, c, d: (b, a, d - b, c - a),
}
MIN_IOU = 0.7  # of a box with the tight box of its mask
_CHECKED = 64  # boxes with masks per split
_ENOUGH = 3  # boxes
_NEARLY_ALL, _HALF = 0.9, 0.5


def layout_of(box: Box, tight: Box) -> str:
    """The layout in which a box fits the tight box of its mask best; "" if it fits in none."""
    ious = {name: box_iou(layout(*box), tight) for name, layout in LAYOUTS.items()}
    best = max(ious, key=lambda name: ious[name])
    return best if ious[best] >= MIN_IOU else ""


class BoxEvidence:
    """What the masks of a split tell of its boxes: the first ones are compared.

    Attributes:
        seen: compared so far.
    """

    def __init__(self) -> None:
        self.seen = 0
        self._fitting: Counter[tuple[str, bool]] = Counter()  # layout, and whether the numbers are fractions
        self._places: list[tuple[str, int | str, str]] = []

    @property
    def wants_more(self) -> bool:
        """Whether further boxes are to be compared."""
        return self.seen < _CHECKED

    def see(self, box: Box, tight: Box, image: GatheredImage, key: int | str) -> None:
        """Compares the numbers of a box, as written, with the tight box of its mask in pixels."""
        self.seen += 1
        fractions = max(map(abs, box)) <= 1
        if fractions:
            width, height = image.width, image.height
            box = box[0] * width, box[1] * height, box[2] * width, box[3] * height
        layout = layout_of(box, tight)
        self._fitting[layout, fractions] += 1
        self._places.append((image.file_name, key, layout))

    def layout(self, *, fractions: bool = False) -> str:
        """What the boxes are, in pixels or in fractions of the image; "" if the masks do not tell.

        Where the boxes of one object in two fit as in COCO, all are meant so.
        """
        of_kind = {name: count for (name, kind), count in self._fitting.items() if kind == fractions}
        seen = sum(of_kind.values())
        best = max(of_kind, key=lambda name: of_kind[name], default="")
        if seen < _ENOUGH:
            return ""
        if of_kind.get(AS_IN_COCO, 0) > seen * _HALF:
            return AS_IN_COCO
        return best if of_kind[best] >= seen * _NEARLY_ALL else ""

    def find(self, findings: FindingCollector) -> None:
        """Adds that the boxes are not laid out as in COCO, if the masks say so."""
        layout = self.layout()
        if layout not in ("", AS_IN_COCO):
            for image, key, name in self._places:
                if name == layout:
                    findings.add("boxes-misread", image, key, causes=(layout,), probed=self.seen)
