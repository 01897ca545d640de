"""Draws masks, boxes and labels over images; one stable color per category."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sam3_lora.masks import mask_to_box_xyxy

Color = tuple[int, int, int]
Rect = tuple[float, float, float, float]
Style = Literal["filled", "outline", "dashed"]

MAX_LABELS = 100  # more would hide the objects they name
HUES = 20
# Lightness and chroma (OKLCH) of the shades a hue comes in: each stands out on wet asphalt as well as on snow.
SHADES = ((0.76, 0.17), (0.63, 0.22))
# Two colors nearer than this in OKLab are hard to tell apart in thin lines; neighboring hues are 0.053 apart.
TOO_ALIKE = 0.15
MASK_OPACITY = 0.3  # a light filling: over a yellow line, more of a blue one would look green
_DARK: Color = (30, 30, 30)
# Found by trial: with it the demo dataset's categories and other frequent words fall far apart.
SALT = b"51694"


@dataclass(frozen=True)
class DrawObject:
    """One object to draw."""

    label: str
    color: Color
    mask: np.ndarray | None = None  # (H, W) bool, of the image's size
    box_xyxy: Rect | None = None  # in pixels
    score: float | None = None  # in [0, 1], shown behind the label
    style: Style = "filled"  # of the mask; the others leave the object free to be seen, and have no box


def category_color(name: str) -> Color:
    """The color of a category: the same for "Paint-Marking" and "paint marking", on every page and in every run."""
    return _color(_place_on_wheel(_same_spelling(name)))


@functools.lru_cache(maxsize=64)
def category_colors(names: tuple[str, ...]) -> dict[str, Color]:
    """The colors of a dataset's categories, as different as possible.

    A category gets its :func:`category_color` unless an earlier one has a similar color; then it gets the one that
    is farthest from all that are taken. With more categories than colors, the rest get their category_color.
    """
    places: dict[str, int] = {}
    for spelling in dict.fromkeys(map(_same_spelling, names)):
        places[spelling] = own = _place_on_wheel(spelling)
        nearest = _distances()[:, list(places.values())[:-1]].min(1, initial=math.inf)  # of the places taken
        if nearest[own] < min(TOO_ALIKE, nearest.max()):
            places[spelling] = int(nearest.argmax())
    return {name: _color(places[_same_spelling(name)]) for name in names}


def _same_spelling(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def _place_on_wheel(spelling: str) -> int:
    digest = hashlib.blake2b(spelling.encode("utf-8", "replace"), digest_size=8, salt=SALT).digest()
    return int.from_bytes(digest, "big") % (HUES * len(SHADES))


def _oklch(place: int) -> tuple[float, float, float]:
    """Lightness, chroma and hue (radians) of one of the colors; chroma is lowered until sRGB can show it."""
    shade, number = divmod(place, HUES)
    lightness, chroma = SHADES[shade]
    hue = 2 * math.pi * (number + shade / len(SHADES)) / HUES
    while not all(-1e-6 <= value <= 1 + 1e-6 for value in _oklch_to_linear(lightness, chroma, hue)):
        chroma -= 0.005
    return lightness, chroma, hue


@functools.cache
def _color(place: int) -> Color:
    red, green, blue = (round(255 * _gamma(min(max(value, 0), 1))) for value in _oklch_to_linear(*_oklch(place)))
    return red, green, blue


@functools.cache
def _distances() -> np.ndarray:
    """How different each two of the colors look (OKLab)."""
    lch = [_oklch(place) for place in range(HUES * len(SHADES))]
    oklab = [(lightness, chroma * math.cos(hue), chroma * math.sin(hue)) for lightness, chroma, hue in lch]
    return np.array([[math.dist(one, other) for other in oklab] for one in oklab])


def overlay(
    image: np.ndarray,
    objects: Sequence[DrawObject],
    *,
    masks: bool = True,
    boxes: bool = True,
    labels: bool = True,
    opacity: float = MASK_OPACITY,
    scale: float = 1.0,
) -> np.ndarray:
    """Draws objects over an image: large ones first, so that small ones stay visible; those without filling last.

    Args:
        image: uint8 (H, W, 3) RGB; it is not changed.
        objects: what to draw; a mask must have the image's size.
        masks, boxes, labels: which parts of the objects to draw.
        opacity: of the masks' filling, in [0, 1].
        scale: of lines and text; above 1 for an image that is shown small.

    Returns:
        uint8 (H, W, 3) RGB. Line width and text grow with the image; of many objects the MAX_LABELS largest have a
        label.
    """
    canvas = np.ascontiguousarray(image).copy()
    short_side = scale * min(canvas.shape[:2])
    width = max(2, round(short_side / 400))
    ordered = sorted(objects, key=lambda item: (item.style == "filled", _extent(item)), reverse=True)
    if masks:
        for item in ordered:
            if item.mask is not None:
                if item.style == "filled":
                    _fill_mask(canvas, item.mask, item.color, opacity)
                _draw_contours(canvas, item.mask, item.color, width, dashed=item.style == "dashed")
    if boxes:
        for item in ordered:
            if item.box_xyxy is not None and (item.style == "filled" or item.mask is None):
                _draw_box(canvas, item.box_xyxy, item.color, max(1, width // 2))
    return _draw_labels(canvas, ordered[:MAX_LABELS], width, max(11, round(short_side * 0.026))) if labels else canvas


def outlines(image: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
    """Draws ground truth as thin white outlines, with a dark edge that shows them on snow.

    Args:
        image: uint8 (H, W, 3) RGB; it is not changed.
        masks: (H, W) bool each.
    """
    canvas = np.ascontiguousarray(image).copy()
    width = max(1, round(min(canvas.shape[:2]) / 500))
    for mask in masks:
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, _DARK, width + 2, cv2.LINE_AA)
        cv2.drawContours(canvas, contours, -1, (255, 255, 255), width, cv2.LINE_AA)
    return canvas


def _extent(item: DrawObject) -> float:
    if item.mask is not None:
        return float(np.count_nonzero(item.mask))
    return 0.0 if item.box_xyxy is None else _overlap(item.box_xyxy, item.box_xyxy)


def _fill_mask(canvas: np.ndarray, mask: np.ndarray, color: Color, opacity: float) -> None:
    assert mask.shape == canvas.shape[:2], f"mask {mask.shape} on an image {canvas.shape[:2]}"
    inside = canvas[mask].astype(np.float32)
    canvas[mask] = np.round(inside + (np.array(color, np.float32) - inside) * opacity).astype(np.uint8)


def _draw_contours(canvas: np.ndarray, mask: np.ndarray, color: Color, width: int, dashed: bool) -> None:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    lines = [part for contour in contours for part in _dashes(contour, 4 + 2 * width)] if dashed else contours
    if dashed or min(canvas.shape[:2]) > 600:
        # A dark line under the colored one keeps the contour crisp where the photograph has its color;
        # in a small image it would bury thin objects.
        cv2.polylines(canvas, lines, not dashed, tuple(value // 3 for value in color), width + 2, cv2.LINE_AA)
    cv2.polylines(canvas, lines, not dashed, color, width, cv2.LINE_AA)


def _dashes(contour: np.ndarray, length: int) -> list[np.ndarray]:
    """Every other piece of a contour, which has a point for each pixel; length: of a piece, in points."""
    return [contour[start : start + length] for start in range(0, len(contour), 2 * length)]


def _draw_box(canvas: np.ndarray, box_xyxy: Rect, color: Color, width: int) -> None:
    height, length = canvas.shape[:2]
    x0, y0, x1, y1 = (round(value) for value in box_xyxy)
    corners = (max(x0, 0), max(y0, 0)), (min(x1, length) - 1, min(y1, height) - 1)
    cv2.rectangle(canvas, *corners, color, width)


def _draw_labels(canvas: np.ndarray, objects: Sequence[DrawObject], width: int, font_size: int) -> np.ndarray:
    height, length = canvas.shape[:2]
    font = ImageFont.load_default(font_size)
    assert isinstance(font, ImageFont.FreeTypeFont), "with a size, Pillow loads its own FreeType font"
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    pad = max(2, round(font.size * 0.3))
    taken: list[Rect] = []
    for item in reversed(objects):  # small objects choose their place first
        anchor = _anchor(item)
        if anchor is None or not item.label:
            continue
        text = _ellipsis(item.label) if item.score is None else f"{_ellipsis(item.label)} {item.score:.2f}"
        left, _, right, _ = draw.textbbox((0, 0), text, font=font, anchor="ls")
        ascent, descent = font.getmetrics()
        size = (right - left + 2 * pad, ascent + descent + pad)
        chip = _place(size, anchor, (length, height), taken, width)
        taken.append(chip)
        filled = item.style == "filled"
        draw.rounded_rectangle(chip, radius=pad, fill=item.color if filled else _DARK, outline=item.color)
        color = ink(item.color if filled else _DARK)
        draw.text((chip[0] + pad - left, chip[1] + pad / 2 + ascent), text, color, font, anchor="ls")
    return np.asarray(picture)


def _anchor(item: DrawObject) -> Rect | None:
    """The rectangle that a label names: the object's box, or that of its mask."""
    if item.box_xyxy is not None:
        return item.box_xyxy
    return None if item.mask is None else mask_to_box_xyxy(item.mask)


def _place(size: tuple[float, float], anchor: Rect, bounds: tuple[int, int], taken: Sequence[Rect], width: int) -> Rect:
    """Where a chip goes: above its box, else in a corner of it, else below; the first place that is free."""
    chip_width, chip_height = size
    x0, y0, x1, y1 = anchor
    candidates = (
        (x0 - width, y0 - chip_height - width),
        (x0, y0),
        (x1 - chip_width, y0),
        (x0, y1 - chip_height),
        (x0 - width, y1 + width),
    )
    lowest = bounds[1] - chip_height
    fitting = [(x, y) for x, y in candidates if 0 <= y <= lowest] or [(x0, min(max(y0, 0), max(lowest, 0)))]
    places = [(min(max(x, 0), max(bounds[0] - chip_width - 1, 0)), y) for x, y in fitting]
    chips = [(x, y, x + chip_width, y + chip_height) for x, y in places]
    return min(chips, key=lambda chip: sum(_overlap(chip, other) for other in taken))


def _overlap(a: Rect, b: Rect) -> float:
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)


def _ellipsis(text: str, max_length: int = 28) -> str:
    text = " ".join(text[: 4 * max_length].split())  # in one line
    return text if len(text) <= max_length else text[: max_length - 1] + "…"


def ink(color: Color) -> Color:
    """Black or white, whichever is easier to read on the color (WCAG's relative luminance)."""
    red, green, blue = (_linear(value / 255) for value in color)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def _oklch_to_linear(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    """OKLCH (Ottosson, 2020) to linear sRGB, which is in [0, 1] where it can be shown."""
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _gamma(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
