"""Nothing outside the dataset is read, and names that are not valid text are findings."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sam3_lora.data.dataset import open_dataset
from sam3_lora.errors import DataError
from tests.data.formats.helpers import per_image, write_json, yolo
from tests.factories import SIZE_HW, coco, kinds, write_dataset, write_split

HEIGHT, WIDTH = SIZE_HW


class TestLinks:
    """Nothing outside the dataset's folder is read, whatever leads there."""

    @pytest.fixture
    def outside(self, tmp_path) -> Path:
        return write_split(tmp_path / "outside", coco())

    def link(self, at: Path, to: Path) -> None:
        at.parent.mkdir(parents=True, exist_ok=True)
        try:
            at.symlink_to(to, target_is_directory=to.is_dir())
        except OSError as error:
            pytest.skip(f"no links here: {error}")

    def test_a_linked_image(self, tmp_path, outside):
        train = write_split(tmp_path / "set" / "train", coco())
        image = next(train.glob("*.png"))
        image.unlink()
        self.link(image, outside / image.name)
        dataset = open_dataset(tmp_path / "set")
        assert kinds(dataset) == ["link-outside-dataset"] and len(dataset.split("train").images) == 4

    def test_a_linked_folder_of_images(self, tmp_path, outside):
        write_json(tmp_path / "set" / "train" / "_annotations.coco.json", coco())
        self.link(tmp_path / "set" / "train" / "images", outside)
        dataset = open_dataset(tmp_path / "set")
        assert kinds(dataset) == ["link-outside-dataset"] and dataset.findings[0].count == 5

    def test_a_linked_split_and_a_linked_file(self, tmp_path, outside):
        self.link(tmp_path / "set" / "train", outside)
        with pytest.raises(DataError, match="link"):
            open_dataset(tmp_path / "set")
        write_split(tmp_path / "set" / "valid", coco())
        assert kinds(open_dataset(tmp_path / "set")) == ["split-unreadable"]

    @pytest.mark.parametrize("name", ["images", "labels"])
    def test_linked_yolo_folders(self, tmp_path, name):
        away, root = tmp_path / "away", tmp_path / "set"
        yolo(away, away / "train" / "labels", away / "train" / "images")
        shutil.copytree(away, root)
        shutil.rmtree(root / "train" / name)
        self.link(root / "train" / name, away / "train" / name)
        with pytest.raises(DataError, match="link"):
            open_dataset(root)

    def test_a_linked_file_of_one_image(self, tmp_path):
        per_image(tmp_path / "set")
        per_image(tmp_path / "away")
        (tmp_path / "set" / "sa_0.json").unlink()
        self.link(tmp_path / "set" / "sa_0.json", tmp_path / "away" / "sa_0.json")
        assert kinds(open_dataset(tmp_path / "set", phrase="hole")) == ["bad-label-file"]

    def test_links_within_the_dataset_are_followed(self, tmp_path):
        train = write_split(tmp_path / "set" / "train", coco())
        (tmp_path / "set" / "pool").mkdir()
        for image in list(train.glob("*.png")):
            image.rename(tmp_path / "set" / "pool" / image.name)
            self.link(image, tmp_path / "set" / "pool" / image.name)
        self.link(tmp_path / "link", tmp_path / "set")
        assert kinds(open_dataset(tmp_path / "set")) == kinds(open_dataset(tmp_path / "link")) == []


class TestNames:
    """On the disk a name may be any bytes, and in a file any text."""

    @pytest.fixture
    def odd(self) -> str:
        name = os.fsdecode(b"od\xffd")
        if name.isprintable():
            pytest.skip("here any bytes are text")
        return name

    def make(self, path: Path) -> Path:
        try:
            path.mkdir(parents=True)
        except (OSError, UnicodeError) as error:
            pytest.skip(f"no such names here: {error}")
        return path

    def test_a_folder_whose_name_is_no_text(self, tmp_path, odd):
        folder = self.make(tmp_path / odd)
        write_dataset(folder)
        with pytest.raises(DataError, match=r"od\?d is not"):
            open_dataset(folder)

    def test_a_split_whose_name_is_no_text(self, tmp_path, odd):
        self.make(tmp_path / odd)
        write_split(tmp_path / odd, coco())
        write_split(tmp_path / "train", coco())
        dataset = open_dataset(tmp_path)
        assert kinds(dataset) == ["split-unreadable"] and list(dataset.splits) == ["train"]
        dataset.findings[0].message.encode()

    @pytest.mark.parametrize("kept", [True, False])
    def test_an_image_whose_name_is_no_text(self, tmp_path, monkeypatch, odd, kept):
        monkeypatch.setattr("sam3_lora.data.formats.yolo.MANY_FILES", 0 if kept else 500)
        self.make(tmp_path / "probe" / odd)
        root = tmp_path / "set"
        yolo(root, root / "train" / "labels", root / "train" / "images")
        (image,) = list((root / "train" / "images").glob("0_000*"))[:1]
        image.rename(image.with_stem(odd))
        assert sorted(kinds(open_dataset(root))) == ["image-unreadable", "label-without-image"]

    def test_a_file_of_one_image_whose_name_is_no_text(self, tmp_path, odd):
        self.make(tmp_path / "probe" / odd)
        per_image(tmp_path / "set")
        (tmp_path / "set" / "sa_0.json").rename(tmp_path / "set" / f"{odd}.json")
        assert kinds(open_dataset(tmp_path / "set", phrase="hole")) == ["bad-label-file"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_nobody_waits_for_a_pipe(tmp_path):
    write_dataset(tmp_path / "set", splits=("train",))
    image = next((tmp_path / "set" / "train").glob("*.png"))
    image.unlink()
    os.mkfifo(image)
    assert kinds(open_dataset(tmp_path / "set")) == ["image-missing"]
    for name in ("train/_annotations.coco.json", "x.json"):
        folder = tmp_path / name.partition("/")[0].removesuffix(".json") / "of pipes"
        (folder / name).parent.mkdir(parents=True)
        os.mkfifo(folder / name)
        with pytest.raises(DataError):
            open_dataset(folder)
