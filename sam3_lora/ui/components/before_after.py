"""Two pictures of the same image, one over the other, parted by a line that a hand or the arrow keys move."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from sam3_lora.files import MB, read_file
from sam3_lora.ui.components.javascript import component

if TYPE_CHECKING:
    from pathlib import Path

_MIMES = {".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
# A range input: browsers and screen readers know it as a slider, with arrow keys, Home, End, touch and mouse.
_HTML = """<figure class="sam3-before-after">
  <img class="before" draggable="false"><img class="after" draggable="false">
  <span class="tag left"></span><span class="tag right"></span><span class="line"></span>
  <input type="range" min="0" max="100" step="1">
  <button type="button" title="Full screen" aria-label="Full screen"><svg viewBox="0 0 16 16" aria-hidden="true">
    <path d="M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4"></path></svg></button>
</figure>"""
_SLIDER = component("before_after", html=_HTML)


def before_after(
    key: str,
    before: str,
    after: str,
    *,
    labels: tuple[str, str],
    alts: tuple[str, str],
    name: str,
    start: int = 50,
    image: str = "",
) -> None:
    """Draws the slider; its place survives reruns of the page with the same image.

    Args:
        key: of the component.
        before, after: URLs of two pictures of the same size, see :func:`file_url`.
        labels: written on the left and on the right part.
        alts: what each picture shows, for those who do not see it.
        name: of the slider, for screen readers.
        start: how much of the picture before is seen at first, in percent from the left.
        image: what the pictures are of.
    """
    data = {"before": before, "after": after, "labels": labels, "alts": alts, "name": name, "start": start}
    _SLIDER(key=key, data=data | {"image": image})


def file_url(path: Path) -> str:
    """A JPEG, PNG or WebP file of at most 10 MB as a data URL. Raises OSError."""
    content = base64.b64encode(read_file(path, 10 * MB)).decode("ascii")
    return f"data:{_MIMES[path.suffix.lower()]};base64,{content}"
