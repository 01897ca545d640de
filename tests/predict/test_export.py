"""Exported predictions: read back by other tools, with unique file names, nothing lost."""

import csv
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from sam3_lora.data.dataset import open_dataset
from sam3_lora.predict.export import FoundImage, found_image, masks_zip, to_coco, to_csv
from sam3_lora.predict.postprocess import PhraseResult

SIZE_HW = (30, 40)


def result(phrase: str, *boxes_xyxy: tuple[int, int, int, int]) -> PhraseResult:
    logits = np.full((len(boxes_xyxy), *SIZE_HW), -1, np.float32)
    for index, (left, top, right, bottom) in enumerate(boxes_xyxy):
        logits[index, top:bottom, left:right] = 1
    scores = np.linspace(0.9, 0.6, len(boxes_xyxy)).astype(np.float32)
    return PhraseResult(phrase, np.array(boxes_xyxy, np.float32).reshape(-1, 4), scores, logits, SIZE_HW)


@pytest.fixture
def images() -> list[FoundImage]:
    two = {"crack": result("crack", (2, 3, 12, 8), (20, 3, 25, 30)), "=pot-hole": result("=pot-hole", (0, 0, 40, 30))}
    return [found_image("a/road.jpg", SIZE_HW, two), found_image("b/road.png", SIZE_HW, {"crack": result("crack")})]


def test_coco_is_read_by_pycocotools_and_by_our_own_reader(images, tmp_path):
    folder = tmp_path / "train"
    written = to_coco(images, ["crack", "=pot-hole", "joint"])
    for image in images:
        (folder / image.name).parent.mkdir(parents=True)
        Image.fromarray(np.zeros((*SIZE_HW, 3), np.uint8)).save(folder / image.name)
    (folder / "_annotations.coco.json").write_text(json.dumps(written))
    coco = COCO(str(folder / "_annotations.coco.json"))
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        rows, columns = np.nonzero(mask)
        x, y, w, h = annotation["bbox"]
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x, y, x + w, y + h)
        assert mask.sum() == annotation["area"] == w * h
    split = open_dataset(str(tmp_path)).split("train")
    assert [len(image.annotations) for image in split.images] == [3, 0]
    assert {"crack", "=pot-hole"} <= {one.category for image in split.images for one in image.annotations}


def test_csv_has_a_line_per_object_and_no_formula(images):
    rows = list(csv.DictReader(io.StringIO(to_csv(images))))
    assert [row["image"] for row in rows] == ["a/road.jpg"] * 3
    assert [int(row["area_px"]) for row in rows] == [50, 135, 1200]
    assert float(rows[2]["area_percent"]) == 100
    assert rows[2]["phrase"] == "'=pot-hole"


def test_every_mask_has_a_file_of_its_own():
    results = {name: result(name, (1, 1, 5, 5)) for name in ("a crack", "a-crack", "A crack?", "../x", "裂缝", "??")}
    images = [found_image(name, SIZE_HW, results) for name in ("road.jpg", "road.png", "sub/road.jpg")]
    with zipfile.ZipFile(io.BytesIO(masks_zip(images))) as archive:
        names = archive.namelist()
        for name in names:
            mask = np.asarray(Image.open(io.BytesIO(archive.read(name))))
            assert mask.shape == SIZE_HW and mask.sum() == 16
    assert len(set(map(str.lower, names))) == 3 * len(results)
    assert all(".." not in name and name.count("/") == 1 for name in names)
