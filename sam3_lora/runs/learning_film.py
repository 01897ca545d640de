"""The learning film of a run: its sample predictions from the base model to the last step, as an animated GIF."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from sam3_lora.files import MB, read_file
from sam3_lora.runs.samples import Sample

MAX_FRAMES = 60  # of more steps, some are left out, but not the first and the last
_COLUMNS = 2
_SIDE = 480  # pixels of the longer side of each picture, at most
_GAP, _STRIP = 6, 26  # pixels between pictures, and of the strip with the step
_FRAME_MS, _LAST_MS = 450, 2_500
_BACKGROUND, _TEXT = (15, 21, 23), (230, 237, 237)
_MAX_BYTES = 50 * MB


def learning_film(samples: Sequence[Sample]) -> bytes | None:
    """The film: one frame for each step, with the pictures of all images side by side.

    Args:
        samples: of the run, as :func:`sam3_lora.runs.samples.read_samples` gives them.

    Returns:
        A GIF that repeats; None where fewer than two steps have a picture that can be read.
    """
    steps = _some(sorted({sample.step for sample in samples}))
    names = list(dict.fromkeys(sample.image for sample in samples))
    pictures: dict[str, Image.Image] = {}  # of each image, the last one that could be read
    frames = []
    for step in steps:
        of_step = {sample.image: sample.path for sample in samples if sample.step == step}
        read = {name: picture for name, path in of_step.items() if (picture := _read(path)) is not None}
        if read:
            pictures |= read
            frames.append(_frame(step, [pictures[name] for name in names if name in pictures], len(names)))
    if len(frames) < 2:
        return None
    size = max(frame.width for frame in frames), max(frame.height for frame in frames)
    padded = [frame if frame.size == size else _padded(frame, size) for frame in frames]
    file = io.BytesIO()
    durations = [*[_FRAME_MS] * (len(padded) - 1), _LAST_MS]
    padded[0].save(file, "GIF", save_all=True, append_images=padded[1:], duration=durations, loop=0)
    return file.getvalue()


def _some(steps: Sequence[int]) -> list[int]:
    """At most MAX_FRAMES of the steps, evenly, the first and the last among them."""
    if len(steps) <= MAX_FRAMES:
        return list(steps)
    last = len(steps) - 1
    return [steps[round(place * last / (MAX_FRAMES - 1))] for place in range(MAX_FRAMES)]


def _read(path: Path) -> Image.Image | None:
    try:
        picture = Image.open(io.BytesIO(read_file(path, _MAX_BYTES))).convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    picture.thumbnail((_SIDE, _SIDE))
    return picture


def _frame(step: int, pictures: Sequence[Image.Image], count: int) -> Image.Image:
    """The pictures in rows below the step; room for `count` of them."""
    width, height = max(one.width for one in pictures), max(one.height for one in pictures)
    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    frame = Image.new("RGB", (columns * (width + _GAP) - _GAP, _STRIP + rows * (height + _GAP) - _GAP), _BACKGROUND)
    words = "Base model" if step == 0 else f"Step {step:,}"
    ImageDraw.Draw(frame).text((8, 5), words, fill=_TEXT, font=ImageFont.load_default(15))
    for place, picture in enumerate(pictures):
        row, column = divmod(place, columns)
        frame.paste(picture, (column * (width + _GAP), _STRIP + row * (height + _GAP)))
    return frame


def _padded(frame: Image.Image, size: tuple[int, int]) -> Image.Image:
    whole = Image.new("RGB", size, _BACKGROUND)
    whole.paste(frame)
    return whole
