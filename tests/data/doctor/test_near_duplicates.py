"""Nearly identical images are found, different ones are not, and a hundred thousand can be compared."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from sam3_lora.config import ASSETS
from sam3_lora.data.doctor.image_probe import THUMB, probe
from sam3_lora.data.doctor.near_duplicates import similar_pairs

PHOTOS = sorted((ASSETS / "demo" / "dataset").rglob("*.jpg"))


def stacked(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    probes = [probe(path) for path in paths]
    assert all(found.gradient_hash is not None for found in probes)
    return np.stack([found.gradient_hash for found in probes]), np.stack([found.thumb for found in probes])


def resaved(picture: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=40)
    return Image.open(buffer)


CHANGES = {
    "saved again": resaved,
    "made smaller": lambda picture: picture.resize((picture.width // 2, picture.height // 2)),
    "made larger": lambda picture: picture.resize((picture.width * 3 // 2, picture.height * 3 // 2)),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.1),
    "gray": lambda picture: picture.convert("L"),
    "a film's next frame": lambda picture: picture.crop((3, 2, picture.width, picture.height)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_nearly_the_same_pictures_are_found(tmp_path, change):
    paths = PHOTOS[:8]
    for index, path in enumerate(paths):
        change(Image.open(path)).save(tmp_path / f"{index}.png", compress_level=1)
    bits, thumbs = stacked([*paths, *(tmp_path / f"{index}.png" for index in range(8))])
    pairs = {tuple(pair) for pair in similar_pairs(bits, thumbs).tolist()}
    assert pairs <= {(index, index + 8) for index in range(8)}
    assert len(pairs) >= 7


def test_different_pictures_are_no_pairs():
    assert len(similar_pairs(*stacked(PHOTOS))) == 0


def test_a_hundred_thousand_images_can_be_compared():
    rng = np.random.default_rng(0)
    count, copies = 100_000, 500
    bits = rng.integers(0, 256, (count, 16), dtype=np.uint8)
    bits[: count // 10, :8] = 0  # many that are alike in half of it, as in front of one sky
    thumbs = rng.integers(0, 256, (count, THUMB, THUMB), dtype=np.uint8)
    bits[-copies:], thumbs[-copies:] = bits[:copies], thumbs[:copies]
    bits[-copies:, 3] ^= 0b101
    pairs = similar_pairs(bits, thumbs)  # comparing each with each would take hours
    assert (pairs == np.stack([np.arange(copies), count - copies + np.arange(copies)], axis=1)).all()
