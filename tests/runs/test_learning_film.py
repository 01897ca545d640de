"""The learning film: a frame for each step, whatever the pictures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam3_lora.runs.learning_film import MAX_FRAMES, learning_film
from sam3_lora.runs.samples import read_samples, write_sample


def write(folder: Path, steps: list[int], images: int = 3, size: tuple[int, int] = (40, 60)) -> None:
    for step in steps:
        for place in range(images):
            picture = np.full((*size, 3), (step * 37 + place * 11) % 256, dtype=np.uint8)
            write_sample(folder, step, place, f"{place}.png", picture, 1, 2)


def frames(film: bytes | None) -> int:
    assert film is not None
    return Image.open(io.BytesIO(film)).n_frames


@pytest.mark.parametrize("images", [1, 2, 3, 5])
def test_each_step_is_a_frame(tmp_path: Path, images: int) -> None:
    write(tmp_path, [0, 4, 8], images)
    assert frames(learning_film(read_samples(tmp_path))) == 3


def test_of_many_steps_the_film_shows_some(tmp_path: Path) -> None:
    write(tmp_path, list(range(3 * MAX_FRAMES)), 1)
    assert frames(learning_film(read_samples(tmp_path))) == MAX_FRAMES


def test_a_damaged_picture_is_shown_as_it_was_before(tmp_path: Path) -> None:
    write(tmp_path, [0, 4, 8], 2)
    read_samples(tmp_path)[2].path.write_bytes(b"no picture")
    assert frames(learning_film(read_samples(tmp_path))) == 3


def test_one_step_makes_no_film(tmp_path: Path) -> None:
    write(tmp_path, [0], 2)
    assert learning_film(read_samples(tmp_path)) is None
    assert learning_film([]) is None
