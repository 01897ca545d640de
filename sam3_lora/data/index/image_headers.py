"""Opens image files, without decoding them: their sizes, and whether EXIF orientations are to be applied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.images import ImageHeader, unreadable_kind
from sam3_lora.data.index.gather import GatheredImage

PROBES = 16  # images per split whose size is compared: a wrong size mostly concerns a whole split
ORIENTED = 2_000  # images of a split that are all opened to look for an EXIF orientation


def probe(
    present: Sequence[GatheredImage],
    measured: Iterable[str],
    folder: Path,
    header_of: Callable[[str], ImageHeader | None],
    findings: FindingCollector,
) -> tuple[int, str]:
    """Opens a few image files, spread over the split: are they images, of the size that the entry gives?

    Where one has an EXIF orientation, or the files are few, all are opened to look for that.

    Args:
        present: the images whose file is there.
        measured: the file names of those whose size is that of the file.
        folder: the folder that paths count from.
        header_of: gives the header of a file by its path.
        findings: of the split.

    Returns:
        How many files were opened to look at their sizes, and how annotations were made where a size does not tell
        (see `ImageRecord.orientation`): as most sizes of the split tell.
    """
    probed = present[:: max(1, len(present) // PROBES)][:PROBES]
    headers = {image.row: header_of(image.path) for image in probed}
    for image in probed:
        header, expected = headers[image.row], (image.width, image.height)
        if header is None:
            findings.add(unreadable_kind(folder / image.path), image.file_name)
        elif kind := header.size_finding(expected):
            width, height = header.used_size(expected)
            detail = f"{width} x {height} instead of {image.width} x {image.height}"
            findings.add(kind, image.file_name, detail=detail)
    turned = any(header is not None and header.orientation > 1 for header in headers.values())
    if not turned and len(present) > ORIENTED:
        return len(probed), ""
    headers |= {image.row: header_of(image.path) for image in present if image.row not in headers}
    told: Counter[str] = Counter()
    unclear, by_file = [], set(measured)
    for image in present:
        header = headers[image.row]
        if header is not None and header.orientation > 1:
            annotated = "" if image.file_name in by_file else header.annotated((image.width, image.height))
            told[annotated] += 1
            if not annotated:
                unclear.append(image.file_name)
    if told["shown"] != told["stored"]:
        return len(probed), "shown" if told["shown"] > told["stored"] else "stored"
    for name in unclear:
        findings.add("image-orientation-unclear", name)
    return len(probed), ""
