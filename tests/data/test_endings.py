"""Pictures of every kind that Pillow opens are found by their endings; HEIC is named with what opens it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from sam3_lora.data.dataset import Dataset, load_image, open_dataset
from sam3_lora.data.doctor import examine
from sam3_lora.data.folders import IMAGE_SUFFIXES
from sam3_lora.data.images import is_heic, read_image
from sam3_lora.errors import DataError
from sam3_lora.predict.folder import images_in
from tests.factories import kinds

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
# No pictures, or none that Pillow decodes by itself: data of science, video, vector graphics, text beside a picture.
NO_PICTURES = {".bufr", ".grib", ".h5", ".hdf", ".mpg", ".mpeg", ".wmf", ".emf", ".eps", ".ps", ".iim"}
FORMATS = {".jfif": "JPEG", ".JPG": "JPEG", ".jp2": "JPEG2000", ".bmp": "BMP", ".TIFF": "TIFF", ".gif": "GIF"}
FORMATS |= {".webp": "WEBP", ".ppm": "PPM", ".tga": "TGA"} | ({".avif": "AVIF"} if features.check("avif") else {})


def yolo(root: Path, name: str) -> Path:
    """Writes a YOLO dataset of one image, which is still to be written; returns its path."""
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    (root / "labels" / Path(name).with_suffix(".txt")).write_text("0 0.5 0.5 0.25 0.25\n")
    (root / "data.yaml").write_text("names: [crack]\n")
    return root / "images" / name


def coco(root: Path, name: str) -> Dataset:
    data = {
        "images": [{"id": 1, "file_name": name, "width": 32, "height": 24}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 9, 9], "iscrowd": 0}],
        "categories": [{"id": 1, "name": "crack"}],
    }
    (root / "images" / "_annotations.coco.json").write_text(json.dumps(data))
    return open_dataset(root)


def test_every_ending_that_pillow_opens_is_known():
    known = {ending for ending, name in Image.registered_extensions().items() if name in Image.OPEN}
    assert known - NO_PICTURES <= IMAGE_SUFFIXES


@pytest.mark.parametrize("ending", FORMATS)
def test_a_picture_is_found_in_every_way(tmp_path, ending):
    path = yolo(tmp_path, f"a{ending}")
    Image.fromarray(np.full((24, 32, 3), 90, np.uint8)).save(path, FORMATS[ending])
    for dataset in (open_dataset(tmp_path), coco(tmp_path, path.name)):
        (split,) = dataset.splits.values()
        assert kinds(dataset) == [] and load_image(split.images[0]).shape == (24, 32, 3)
    assert images_in(tmp_path) == [path]


@pytest.mark.skipif(not is_heic(HEIC), reason="pillow-heif is installed")
@pytest.mark.parametrize("name", ["a.heic", "a.HEIF", "a.jpg"])
def test_heic_is_named_with_what_opens_it(tmp_path, name):
    path = yolo(tmp_path, name)
    path.write_bytes(HEIC)
    (tmp_path / "images" / ".hidden.heic").write_bytes(HEIC)
    dataset = open_dataset(tmp_path)
    assert kinds(dataset) == ["image-heic"] and dataset.findings[0].image_names == (name,)
    dataset = coco(tmp_path, name)
    assert kinds(dataset) == ["image-heic"] and "pillow-heif" in dataset.findings[0].fix
    assert [finding.kind for finding in examine(dataset).findings if finding.severity == "error"] == ["image-heic"]
    for read in (lambda: load_image(next(iter(dataset.splits.values())).images[0]), lambda: read_image(path)):
        with pytest.raises(DataError, match="pillow-heif"):
            read()
    assert images_in(tmp_path) == [path]
