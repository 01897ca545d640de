"""A folder of images: each gives the same result as alone; images that cannot be read are skipped with a reason."""

import numpy as np
import pytest
from PIL import Image

from sam3_lora.errors import DataError
from sam3_lora.predict.export import found_image
from sam3_lora.predict.folder import MAX_OBJECTS, MIN_SCORE, FolderPrediction, Skipped, images_in, predict_images
from sam3_lora.predict.postprocess import PostprocessConfig, postprocess_all
from sam3_lora.predict.predictor import Predictor


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "a.JPG", "sub/c.png"):
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes((tmp_path / "b.png").read_bytes()[:200])
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_images_are_found_by_name_below_the_folder(folder, tmp_path_factory):
    assert [path.relative_to(folder).as_posix() for path in images_in(folder)] == [
        "a.JPG", "b.png", "broken.png", "sub/c.png",
    ]  # fmt: skip
    with pytest.raises(DataError, match="found none"):
        images_in(tmp_path_factory.mktemp("empty"))
    for wrong in (folder / "nowhere", folder / "b.png", "x" * 5000):
        with pytest.raises(DataError, match="folder of images"):
            images_in(wrong)


def test_each_image_gives_the_same_result_as_alone_and_broken_ones_are_skipped(folder):
    predictor = Predictor.load("demo", device="cpu")
    phrases, config, thresholds = ["circle", "line"], PostprocessConfig(threshold=0.2, box_iou=0.7), {"line": 0.1}
    predictions = list(predict_images(predictor, images_in(folder), folder, phrases, config, thresholds))
    assert [type(one) for one in predictions] == [FolderPrediction, FolderPrediction, Skipped, FolderPrediction]
    assert predictions[2].name == "broken.png" and "cannot be read" in predictions[2].why
    predictor.set_image(folder / "sub" / "c.png")
    alone = postprocess_all(predictor.prompt(phrases, MIN_SCORE, MAX_OBJECTS), config, thresholds)
    assert predictions[3].found == found_image("sub/c.png", (40, 60), alone)
