"""Download buttons of the inference page: images with objects drawn on them, masks, COCO JSON and CSV."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import streamlit as st

from sam3_lora.data.images import read_image
from sam3_lora.draw import overlay
from sam3_lora.errors import DataError
from sam3_lora.predict.export import FoundImage, file_part, masks_zip, to_coco, to_csv
from sam3_lora.ui.components.images import fit, scaled_object, to_jpeg, to_png
from sam3_lora.ui.components.layout import download
from sam3_lora.ui.inference.view_state import ObjectColors

_MIN_SIZE, _MAX_SIZE = 640, 4000  # pixels of the longer side of a downloaded image


def _buttons(
    stem: str,
    images: Callable[[], Sequence[FoundImage]],
    phrases: Sequence[str],
    drawings: tuple[str, str, Callable[[], bytes]],
) -> None:
    """Draws four buttons in a row; each file is made when its button is pressed.

    Args:
        stem: of the files' names.
        images: gives the images and what was found in them.
        phrases: of the prompt, which become the categories of the COCO file.
        drawings: label, ending and content of the first file.
    """
    label, ending, content = drawings
    coco = "Boxes, masks and scores as COCO JSON; each phrase is a category"
    files = (
        (label, content, ending, "Masks, boxes and labels drawn on the image"),
        ("Masks", lambda: masks_zip(images()), "-masks.zip", "One PNG per object, in a zip archive"),
        ("COCO", lambda: json.dumps(to_coco(images(), phrases)), "-coco.json", coco),
        ("CSV", lambda: to_csv(images()), ".csv", "One line per object: phrase, score, box, area"),
    )
    with st.container(horizontal=True):
        for name, make, end, meaning in files:
            download(name, make, file_part(stem) + end, f"download-{name.lower()}", meaning)


def of_one_image(
    stem: str, image: Callable[[], FoundImage], pixels: np.ndarray, phrases: Sequence[str], colors: ObjectColors
) -> None:
    """Draws the buttons for one image, whose drawing is a PNG.

    Args:
        stem: of the files' names.
        image: gives what was found in it.
        pixels: (H, W, 3) uint8.
        phrases: of the prompt.
        colors: of the objects.
    """

    def png() -> bytes:
        return to_png(draw(image(), pixels, colors, _MAX_SIZE, _MIN_SIZE))

    _buttons(stem, lambda: [image()], phrases, ("Image", ".png", png))


def of_folder(folder: Path, images: Sequence[FoundImage], phrases: Sequence[str], colors: ObjectColors) -> None:
    """Draws the buttons for a folder, whose drawings are JPEG files in a zip archive.

    Args:
        folder: that the images' names are relative to.
        images: what was found in them.
        phrases: of the prompt.
        colors: of the objects.
    """

    def archive() -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            for image in images:
                try:
                    pixels = read_image(folder / image.name)
                except DataError:
                    continue  # deleted since
                file.writestr(f"{image.name}.jpg", to_jpeg(draw(image, pixels, colors, _MAX_SIZE, _MIN_SIZE)))
        return buffer.getvalue()

    _buttons(folder.name or "folder", lambda: images, phrases, ("Images", ".zip", archive))


def draw(
    image: FoundImage, pixels: np.ndarray, colors: ObjectColors, max_size: int, min_size: int = 0, boxes: bool = True
) -> np.ndarray:
    """The image with its objects drawn on it.

    Args:
        image: what was found.
        pixels: (H, W, 3) uint8.
        colors: of the objects.
        max_size, min_size: limits of the longer side, in pixels.
        boxes: whether they are drawn, too.

    Returns:
        (h, w, 3) uint8.
    """
    resized = fit(pixels, max_size, min_size)
    objects = []
    for index, one in enumerate(image.objects):
        sizes, color = (image.size_hw, resized.shape[:2]), colors.of(one.phrase, index)
        objects.append(scaled_object(one.phrase, color, one.rle, one.box_xyxy, *sizes, one.score))
    return overlay(resized, objects, boxes=boxes)
