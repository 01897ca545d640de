"""Which share of the objects gets lost at an image size."""

import pytest

from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.object_sizes import small_share
from tests.factories import write_split


def test_the_shorter_side_in_the_models_image_decides(tmp_path):
    boxes = [(0, 0, 10, 100), (0, 0, 40, 40), (0, 0, 100, 25), (0, 0, 1, 1)]
    annotations = [
        {"id": number, "image_id": 1, "category_id": 1, "bbox": list(box), "area": 1, "iscrowd": number == 4}
        for number, box in enumerate(boxes, 1)
    ]
    data = {
        "images": [{"id": 1, "file_name": "a.png", "width": 200, "height": 100}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "crack"}],
    }
    write_split(tmp_path / "train", data)
    images = open_dataset(tmp_path).splits["train"].images
    # Squashed to a square: at 160 the three are 8 x 160, 32 x 64 and 80 x 40 pixels.
    assert small_share(images, 160) == 0
    assert small_share(images, 159) == pytest.approx(1 / 3)
    assert small_share(images, 39) == pytest.approx(2 / 3), "40 of 200 pixels are 7.8, 25 of 100 are 9.75"
    assert small_share(images, 31) == 1
    assert small_share(images[:0], 160) is None
