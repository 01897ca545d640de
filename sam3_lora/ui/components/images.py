"""Annotated images drawn at display size, cached, and encoded as JPEG or PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image, ImageDraw, ImageFont, ImageOps

from sam3_lora.data.dataset import Annotation, ImageRecord, load_image
from sam3_lora.data.images import BROKEN, HEIC, HEIC_FIX, MAX_PIXELS, is_heic, to_rgb
from sam3_lora.draw import MASK_OPACITY, Color, DrawObject, Style, overlay
from sam3_lora.errors import DataError
from sam3_lora.masks import decode_resized, decode_segmentation

THUMBNAIL_SIZE = 360  # pixels of the longer side: about twice what is shown, for sharp screens
# How Streamlit's caches tell images apart, within one state of a dataset's files.
RECORD_KEY: dict[str | type[Any], Callable[[Any], Any]] = {ImageRecord: lambda record: (str(record.path), record.id)}


@dataclass(frozen=True)
class Layers:
    """What is drawn over an image."""

    masks: bool = True
    boxes: bool = True
    labels: bool = True
    opacity: float = MASK_OPACITY  # of the masks, in [0, 1]
    categories: tuple[str, ...] = ()  # only objects of these; empty for all

    def shows(self, annotation: Annotation) -> bool:
        """Whether an annotation is drawn."""
        return not self.categories or annotation.category in self.categories


@st.cache_data(max_entries=600, show_spinner=False, hash_funcs=RECORD_KEY)  # about 15 MB
def thumbnail(record: ImageRecord, state: tuple, layers: Layers, _colors: Mapping[str, Color]) -> bytes:
    """A small JPEG of the image with its objects drawn over it, cached.

    Args:
        record: the image.
        state: the dataset's fingerprint, part of the cache's key.
        layers: what is drawn.
        _colors: of the dataset's categories.

    Raises:
        DataError: the image file is missing or broken.
    """
    image = fit(load_image(record, THUMBNAIL_SIZE, MAX_PIXELS), THUMBNAIL_SIZE)
    objects = []
    for annotation in filter(layers.shows, record.annotations):
        x, y, w, h = annotation.bbox_xywh
        segmentation = annotation.segmentation if layers.masks else None
        label, color = annotation.category, _colors[annotation.category]
        label += " (crowd)" if annotation.iscrowd else ""
        box_xyxy, size_hw = (x, y, x + w, y + h), (record.height, record.width)
        objects.append(scaled_object(label, color, segmentation, box_xyxy, size_hw, image.shape[:2]))
    drawn = overlay(
        image, objects, masks=layers.masks, boxes=layers.boxes, labels=layers.labels, opacity=layers.opacity
    )
    return to_jpeg(drawn)


def fitted_hw(size_hw: tuple[int, int], longest: int, at_least: int = 0) -> tuple[int, int]:
    """The size at which an image of this size is shown; for the limits see :func:`fit`."""
    side = max(size_hw)
    wanted = min(max(side, at_least), longest)
    height, width = (max(1, round(length * wanted / side)) for length in size_hw)
    return height, width


def fit(image: np.ndarray, longest: int, at_least: int = 0) -> np.ndarray:
    """Resizes (H, W, 3) uint8; done before drawing, so that lines and text are sharp.

    Args:
        image: any size.
        longest: maximum of the longer side, in pixels.
        at_least: minimum of the longer side, in pixels.
    """
    height, width = fitted_hw(image.shape[:2], longest, at_least)
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def to_png(image: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB as a PNG file, lossless."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def to_jpeg(image: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()


def data_url(image: np.ndarray, longest: int) -> str:
    """(H, W, 3) uint8 RGB as the URL of a JPEG image of at most so many pixels."""
    return "data:image/jpeg;base64," + base64.b64encode(to_jpeg(fit(image, longest))).decode("ascii")


def to_gif(pictures: Sequence[np.ndarray], labels: Sequence[str], ms: int = 1_200) -> bytes:
    """Pictures of the same image as an animated GIF that repeats, each with its label in the corner.

    Args:
        pictures: (H, W, 3) uint8 each, of one size.
        labels: as many.
        ms: how long each is shown.
    """
    frames = []
    for picture, label in zip(pictures, labels, strict=True):
        frame = Image.fromarray(picture)
        draw, font = ImageDraw.Draw(frame), ImageFont.load_default(18)
        box = draw.textbbox((14, 12), label, font=font)
        draw.rounded_rectangle((box[0] - 8, box[1] - 6, box[2] + 8, box[3] + 6), radius=6, fill=(15, 21, 23))
        draw.text((14, 12), label, fill=(255, 255, 255), font=font)
        frames.append(frame)
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=ms, loop=0)
    return file.getvalue()


def scaled_object(
    label: str,
    color: Color,
    segmentation: Any,
    box_xyxy: Sequence[float],
    size_hw: tuple[int, int],
    to_hw: tuple[int, int],
    score: float | None = None,
    style: Style = "filled",
) -> DrawObject:
    """An object to draw on an image of another size.

    Args:
        label, color, score, style: as :class:`DrawObject` takes them.
        segmentation: COCO polygons or run lengths, in pixels of `size_hw`; None without a mask.
        box_xyxy: in pixels of `size_hw`.
        size_hw: of the image that the object was found or annotated in.
        to_hw: of the image that it is drawn on.
    """
    scale_y, scale_x = to_hw[0] / size_hw[0], to_hw[1] / size_hw[1]
    x0, y0, x1, y1 = box_xyxy
    box = (x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y)
    return DrawObject(label, color, _mask_at(segmentation, size_hw, to_hw), box, score, style)


def _mask_at(segmentation: Any, size_hw: tuple[int, int], to_hw: tuple[int, int]) -> np.ndarray | None:
    """(h, w) bool: a mask at another size; None if there is none or it cannot be decoded, which is a finding."""
    if segmentation is None:
        return None
    try:
        if isinstance(segmentation, list):  # scaling polygons first is much faster than filling them at full size
            scale = np.array((to_hw[1] / size_hw[1], to_hw[0] / size_hw[0]))
            scaled = [(np.asarray(polygon, float).reshape(-1, 2) * scale).ravel().tolist() for polygon in segmentation]
            return decode_segmentation(scaled, to_hw)
        return decode_resized(segmentation, size_hw, to_hw)
    except DataError:
        return None


def decode(file: bytes, name: str) -> np.ndarray:
    """Decodes an image file to (H, W, 3) uint8 RGB, rotated by its EXIF tag.

    Args:
        file: content.
        name: for the error.

    Raises:
        DataError: it is no image.
    """
    try:
        with Image.open(io.BytesIO(file)) as picture:
            return np.asarray(to_rgb(ImageOps.exif_transpose(picture), name))
    except BROKEN:
        if is_heic(file):
            raise DataError(f"The image {name} is {HEIC}", HEIC_FIX) from None
        raise DataError(
            f"Expected an image, but {name} cannot be read as one", "Upload a complete JPEG or PNG file"
        ) from None
