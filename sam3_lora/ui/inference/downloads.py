"""Answers to take away: pictures, masks, COCO JSON and a table, of one image or of a folder."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import streamlit as st

from sam3_lora.draw import DrawObject, overlay
from sam3_lora.errors import DataError
from sam3_lora.masks import decode_segmentation
from sam3_lora.predict.export import FoundImage, file_part, masks_zip, to_coco, to_csv
from sam3_lora.predict.predictor import read_image
from sam3_lora.ui.components.images import fit, to_jpeg, to_png
from sam3_lora.ui.components.layout import download
from sam3_lora.ui.inference.result_view import ObjectColors

_MIN_SIZE, _MAX_SIZE = 640, 4000  # pixels of the longer side of a picture that is taken away


def buttons(
    stem: str,
    found: Callable[[], Sequence[FoundImage]],
    phrases: Sequence[str],
    picture: tuple[str, str, str, Callable[[], bytes]],
) -> None:
    """Four buttons in a row; each file is made when it is asked for.

    Args:
        stem: what the files are called.
        picture: label, ending, type and content of the first file.
    """
    label, ending, mime, content = picture
    stem = file_part(stem)
    with st.container(horizontal=True):
        for name, make, ends, kind, meaning in (
            (label, content, f".{ending}", mime, "The image with everything drawn into it"),
            ("Masks", lambda: masks_zip(found()), "-masks.zip", "application/zip", "One PNG per object, in a zip"),
            (
                "COCO",
                lambda: json.dumps(to_coco(found(), phrases)),
                "-coco.json",
                "application/json",
                "Boxes, masks and scores as COCO JSON, each phrase a category",
            ),
            ("CSV", lambda: to_csv(found()), ".csv", "text/csv", "One line per object: phrase, score, box, area"),
        ):
            download(name, make, stem + ends, kind, f"take-{name.lower()}", meaning)


def drawn(found: FoundImage, pixels: np.ndarray, colors: ObjectColors, longest: int, at_least: int = 0) -> np.ndarray:
    """The image with its objects drawn into it, its longer side between the two limits. (h, w, 3) uint8."""
    shown = fit(pixels, longest, at_least)
    height, width = shown.shape[:2]
    scale = np.array((width / found.size_hw[1], height / found.size_hw[0]) * 2)
    objects = []
    for place, one in enumerate(found.objects):
        mask = decode_segmentation(one.rle, found.size_hw).astype(np.uint8)
        if mask.shape != shown.shape[:2]:
            mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        box = tuple(np.array(one.box_xyxy) * scale)
        objects.append(DrawObject(one.phrase, colors.of(one.phrase, place), mask.astype(bool), box, one.score))
    return overlay(shown, objects)


def picture_png(found: FoundImage, pixels: np.ndarray, colors: ObjectColors) -> bytes:
    return to_png(drawn(found, pixels, colors, _MAX_SIZE, _MIN_SIZE))


def pictures_zip(images: Sequence[FoundImage], root: Path, colors: ObjectColors) -> bytes:
    """A JPEG of each image with everything drawn in, in folders as theirs; images that are gone since are left out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for image in images:
            try:
                pixels = read_image(root / image.name)
            except DataError:
                continue
            archive.writestr(f"{image.name}.jpg", to_jpeg(drawn(image, pixels, colors, _MAX_SIZE, _MIN_SIZE)))
    return buffer.getvalue()
