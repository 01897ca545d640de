"""Base model and adapter as two pictures, one over the other: dragged by hand, in full screen, saved as a GIF."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sam3_lora.predict.export import file_part, found_image
from sam3_lora.text import plural
from sam3_lora.ui.components.before_after import before_after
from sam3_lora.ui.components.images import data_url, to_gif
from sam3_lora.ui.components.layout import download
from sam3_lora.ui.inference.downloads import draw
from sam3_lora.ui.inference.results import SENT_SIZE, Comparison
from sam3_lora.ui.inference.view_state import ViewState

if TYPE_CHECKING:
    from sam3_lora.predict.postprocess import PhraseResult

_MIN_SIZE = 640  # pixels of the longer side
_GIF_SIZE = 900


def _left_of(found: Mapping[str, PhraseResult]) -> int:
    """Where the slider starts, in percent: left of all objects, so that the adapter's are seen at once; 50 without."""
    lefts = [float(result.boxes_xyxy[:, 0].min()) / result.size_hw[1] for result in found.values() if len(result)]
    return min(50, max(4, int(100 * min(lefts)) - 4)) if lefts else 50


def show(
    comparison: Comparison,
    base: Mapping[str, PhraseResult],
    adapter: Mapping[str, PhraseResult],
    view: ViewState,
) -> None:
    """Draws the slider and the download.

    Args:
        comparison: of a prompt.
        base, adapter: what is shown of their predictions, by phrase.
        view: colors, and whether boxes are drawn.
    """
    height, width = comparison.image.shape[:2]
    name = Path(comparison.prompt.image_name)
    images = [found_image(name.name, (height, width), dict(shown)) for shown in (base, adapter)]
    labels = tuple(
        f"{title}: {plural(len(image.objects), 'object')}"
        for title, image in zip(("Base model", "Adapter"), images, strict=True)
    )

    def pictures(size: int) -> list[np.ndarray]:
        return [draw(image, comparison.image, view.colors, size, _MIN_SIZE, view.boxes) for image in images]

    before_after(
        "inference-slider",
        *(data_url(picture, SENT_SIZE) for picture in pictures(SENT_SIZE)),
        labels=(labels[0], labels[1]),
        alts=(f"The image with {labels[0]}", f"The image with {labels[1]}"),
        name="Base model and adapter: drag, or use the arrow keys",
        start=_left_of(adapter),
        image=comparison.prompt.image_name,
    )
    download(
        "Before and after",
        lambda: to_gif(
            [draw(image, comparison.image, view.colors, _GIF_SIZE, _MIN_SIZE, view.boxes) for image in images], labels
        ),
        f"{file_part(name.stem)}-before-after.gif",
        "download-before-after",
        "Both pictures as an animated GIF",
    )
