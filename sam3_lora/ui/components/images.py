"""Annotated images drawn at display size, cached, and encoded as JPEG or PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st
import torch
from PIL import Image, ImageOps

from sam3_lora.boxes import xywh_to_xyxy
from sam3_lora.data.dataset import Annotation, ImageRecord, load_image
from sam3_lora.data.images import MAX_PIXELS, to_rgb
from sam3_lora.draw import Color, DrawObject, overlay
from sam3_lora.errors import DataError
from sam3_lora.masks import decode_resized, decode_segmentation

THUMBNAIL_SIZE = 360  # pixels of the longer side: about twice what is shown, for sharp screens


@dataclass(frozen=True)
class Layers:
    """What is drawn over an image."""

    masks: bool = True
    boxes: bool = True
    labels: bool = True
    opacity: float = 0.45  # of the masks, in [0, 1]
    categories: tuple[str, ...] = ()  # only objects of these; empty for all

    def shows(self, annotation: Annotation) -> bool:
        """Whether an annotation is drawn."""
        return not self.categories or annotation.category in self.categories


def thumbnail(record: ImageRecord, state: tuple, layers: Layers, colors: Mapping[str, Color]) -> bytes:
    """A small JPEG of the image with its objects drawn over it, cached.

    Args:
        record: the image.
        state: the dataset's fingerprint, part of the cache's key.
        layers: what is drawn.
        colors: of the dataset's categories.

    Raises:
        DataError: the image file is missing or broken.
    """
    return _thumbnail(str(record.path), record.id, state, layers, record, colors)


@st.cache_data(max_entries=600, show_spinner=False)  # about 15 MB
def _thumbnail(
    path: str, image_id: object, state: tuple, layers: Layers, _record: ImageRecord, _colors: Mapping[str, Color]
) -> bytes:
    image = fit(load_image(_record, THUMBNAIL_SIZE, MAX_PIXELS), THUMBNAIL_SIZE)
    objects = [
        _draw_object(annotation, _record, image.shape[:2], _colors[annotation.category], with_mask=layers.masks)
        for annotation in _record.annotations
        if layers.shows(annotation)
    ]
    drawn = overlay(
        image, objects, masks=layers.masks, boxes=layers.boxes, labels=layers.labels, opacity=layers.opacity
    )
    return to_jpeg(drawn)


def fit(image: np.ndarray, longest: int, at_least: int = 0) -> np.ndarray:
    """Resizes (H, W, 3) uint8; done before drawing, so that lines and text are sharp.

    Args:
        image: any size.
        longest: maximum of the longer side, in pixels.
        at_least: minimum of the longer side, in pixels.
    """
    side = max(image.shape[:2])
    wanted = min(max(side, at_least), longest)
    if wanted == side:
        return image
    height, width = (max(1, round(length * wanted / side)) for length in image.shape[:2])
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


def _draw_object(
    annotation: Annotation, record: ImageRecord, size_hw: tuple[int, int], color: Color, *, with_mask: bool
) -> DrawObject:
    height, width = size_hw
    scale = torch.tensor((width / record.width, height / record.height) * 2)
    box = xywh_to_xyxy(torch.tensor(annotation.bbox_xywh)) * scale
    return DrawObject(
        label=annotation.category,
        color=color,
        mask=mask_at(annotation, record, size_hw) if with_mask else None,
        box_xyxy=tuple(box.tolist()),
        score=None,
    )


def scaled_object(
    label: str,
    color: Color,
    segmentation: object,
    box_xyxy: Sequence[float],
    size_hw: tuple[int, int],
    to_hw: tuple[int, int],
    score: float | None = None,
) -> DrawObject:
    """An object to draw on an image of another size.

    Args:
        label, color, score: as :class:`DrawObject` takes them.
        segmentation: COCO polygons or run lengths, in pixels of `size_hw`.
        box_xyxy: in pixels of `size_hw`.
        size_hw: of the image that the object was found or annotated in.
        to_hw: of the image that it is drawn on.
    """
    scale_y, scale_x = to_hw[0] / size_hw[0], to_hw[1] / size_hw[1]
    x0, y0, x1, y1 = box_xyxy
    box = (x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y)
    return DrawObject(label, color, decode_resized(segmentation, size_hw, to_hw), box, score)


def mask_at(annotation: Annotation, record: ImageRecord, size_hw: tuple[int, int]) -> np.ndarray | None:
    """(H, W) bool: the object's mask at a size; None if it has none or it cannot be decoded, which is a finding.

    Args:
        annotation: the object.
        record: its image.
        size_hw: of the mask.
    """
    segmentation = annotation.segmentation
    if segmentation is None:
        return None
    try:
        if isinstance(segmentation, list):
            return decode_segmentation(_scale_polygons(segmentation, record, size_hw), size_hw)
        return decode_resized(segmentation, (record.height, record.width), size_hw)
    except DataError:
        return None


def _scale_polygons(polygons: Sequence[Sequence[float]], record: ImageRecord, size_hw: tuple[int, int]) -> list:
    """Scales polygons before they are filled, which is much faster than filling them at full size."""
    scale = np.array((size_hw[1] / record.width, size_hw[0] / record.height))
    return [(np.asarray(polygon, float).reshape(-1, 2) * scale).ravel().tolist() for polygon in polygons]


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
            return np.asarray(to_rgb(ImageOps.exif_transpose(picture)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise DataError(
            f"Expected an image, but {name} cannot be read as one", "Upload a complete JPEG or PNG file"
        ) from None
