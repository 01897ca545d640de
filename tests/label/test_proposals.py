"""What a model proposes: the same as it predicts; the mask for a drawn box."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sam3_lora.config import ASSETS
from sam3_lora.data.images import read_image
from sam3_lora.data.records import ImageRecord
from sam3_lora.label.proposals import Proposals, object_in_box, pixels_of, propose, propose_again
from sam3_lora.masks import decode_segmentation
from sam3_lora.predict.predictor import Predictor

VALID = ASSETS / "demo" / "dataset" / "valid"
PHRASES = ("pothole", "paint marking")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load("demo", ASSETS / "demo" / "adapter", "cpu")


@pytest.fixture(scope="module")
def image() -> str:
    return sorted(path.name for path in VALID.rglob("*.jpg"))[1]


def test_proposals_are_predictions_and_survive_their_file(predictor, image, tmp_path):
    found = propose(predictor, VALID, image, PHRASES)
    assert found.objects and {one.phrase for one in found.objects} <= set(PHRASES) and 0 <= found.uncertainty <= 1
    best = found.objects[0]
    mask = decode_segmentation(best.rle, found.size_hw)
    rows, columns = np.nonzero(mask)
    assert mask.any() and abs(columns.mean() - (best.box_xyxy[0] + best.box_xyxy[2]) / 2) < 40 and len(rows)
    found.write(tmp_path)
    assert Proposals.read_all(tmp_path, {image}) == {image: found} and Proposals.read_all(tmp_path, set()) == {}
    assert found.similarity(found) == pytest.approx(1, abs=1e-3)


def test_an_image_that_cannot_be_read_is_a_problem(predictor, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8")
    found = propose(predictor, tmp_path, "a.jpg", PHRASES)
    assert found.problem and "\n" not in found.problem


def test_a_drawn_box_gets_the_mask_of_the_object_in_it(predictor, image):
    found = propose(predictor, VALID, image, PHRASES)
    best = max(found.objects, key=lambda one: one.score)
    pixels = read_image(VALID / image)
    x0, y0, x1, y1 = best.box_xyxy
    drawn = object_in_box(predictor, pixels, best.phrase, (x0 + 2, y0 + 2, x1 - 2, y1 - 1))
    assert drawn.source == "drawn" and drawn.phrase == best.phrase and drawn.rle is not None
    size_hw = pixels.shape[:2]
    one, other = (decode_segmentation(rle, size_hw) for rle in (drawn.rle, best.rle))
    assert (one & other).sum() / (one | other).sum() > 0.5
    nothing = object_in_box(predictor, pixels, "pothole", (0, 0, 9, 9))
    assert nothing.rle is None and nothing.box_xyxy == (0, 0, 9, 9), "a box alone is no silent failure"


def test_asking_again_without_objects_like_one(predictor, image):
    found = propose_again(predictor, read_image(VALID / image), "pothole", [(5, 5, 40, 40)])
    assert all(one.phrase == "pothole" for one in found)


def test_a_review_is_in_the_pixels_of_its_dataset(predictor, image, tmp_path):
    """Annotations made on a picture of twice the size, or before the camera's rotation was applied."""
    pixels = read_image(VALID / image)
    height, width = pixels.shape[:2]
    plain = propose(predictor, VALID, image, PHRASES)
    larger = ImageRecord(1, image, VALID / image, 2 * width, 2 * height, ())
    found = propose(predictor, VALID, image, PHRASES, larger)
    assert found.size_hw == (2 * height, 2 * width) and len(found.objects) == len(plain.objects)
    for one, other in zip(found.objects, plain.objects, strict=True):
        assert one.box_xyxy == pytest.approx([2 * side for side in other.box_xyxy], abs=2)  # of masks
        assert decode_segmentation(one.rle, found.size_hw).any()

    exif = Image.Exif()
    exif[0x0112] = 6
    wide = Image.fromarray(pixels[: height // 2])
    wide.save(tmp_path / "turned.jpg", exif=exif)
    stored = ImageRecord(1, "turned.jpg", tmp_path / "turned.jpg", *wide.size, ())
    assert pixels_of(tmp_path, "turned.jpg", stored)[0].shape[:2] == (wide.height, wide.width)
    assert pixels_of(tmp_path, "turned.jpg")[1] == (wide.width, wide.height), "as viewers show it"
