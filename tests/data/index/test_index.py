"""Large annotation files: read in pieces, kept as an index that is never trusted blindly, and never pickled."""

from __future__ import annotations

import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from sam3_lora.data.dataset import Dataset, open_dataset
from sam3_lora.data.formats import coco as coco_file
from sam3_lora.data.formats import sources, yolo
from sam3_lora.data.formats.coco import CocoFile
from sam3_lora.data.index import cache
from sam3_lora.data.index.index import Index, IndexWriter
from sam3_lora.errors import DataError
from tests.factories import SIZE_HW, coco, write_split

HEIGHT, WIDTH = SIZE_HW


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A dataset whose index is kept in tmp_path / "cache", small as it is, and which is read in many pieces."""
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "KEPT_FROM", 0)
    monkeypatch.setattr(coco_file, "PIECE", 300)
    write_split(tmp_path / "set" / "train", coco(images=12))
    return tmp_path / "set"


def everything(dataset: Dataset) -> list:
    return [dataset.findings, dataset.categories, *(list(split.images) for split in dataset.splits.values())]


def kept(folder: Path) -> list[Path]:
    return sorted((folder.parent / "cache").glob("*"))


def built(monkeypatch) -> list[Path]:
    """A list that grows with every index that is built from now on."""
    files: list[Path] = []
    original = cache._built
    monkeypatch.setattr(cache, "_built", lambda file, build: files.append(file) or original(file, build))
    return files


def test_pieces_make_the_same_as_the_whole(folder, monkeypatch):
    in_pieces = everything(open_dataset(folder))
    monkeypatch.setattr(coco_file, "PIECE", 2**22)
    monkeypatch.setattr(sources, "KEPT_FROM", 2**30)
    assert everything(open_dataset(folder)) == in_pieces


def test_opening_again_builds_nothing_and_gives_the_same(folder, monkeypatch):
    first = everything(open_dataset(folder))
    builds = built(monkeypatch)
    assert everything(open_dataset(folder)) == first
    assert builds == [] and [path.suffix for path in kept(folder)] == [".index"]


def change_file(folder: Path) -> None:
    path = folder / "train" / "_annotations.coco.json"
    data = json.loads(path.read_text())
    data["annotations"].pop()
    path.write_text(json.dumps(data))


def remove_image(folder: Path) -> None:
    (folder / "train" / "0_000.png").unlink()


def add_folder(folder: Path) -> None:
    (folder / "train" / "images").mkdir()


@pytest.mark.parametrize("change", [change_file, remove_image, add_folder])
def test_a_changed_dataset_is_read_again(folder, monkeypatch, change):
    open_dataset(folder)
    change(folder)
    builds = built(monkeypatch)
    dataset = open_dataset(folder)
    assert len(builds) == 1
    monkeypatch.setattr(sources, "KEPT_FROM", 2**30)
    assert everything(dataset) == everything(open_dataset(folder))


def test_images_that_arrive_in_a_folder_within_are_seen(folder):
    path = folder / "train" / "_annotations.coco.json"
    data = json.loads(path.read_text())
    for entry in data["images"]:
        (folder / "train" / entry["file_name"]).rename(folder.parent / entry["file_name"])
        entry["file_name"] = f"sub/{entry['file_name']}"
    path.write_text(json.dumps(data))
    (folder / "train" / "sub").mkdir()
    assert [finding.kind for finding in open_dataset(folder).findings] == ["image-missing"]
    for entry in data["images"]:
        (folder.parent / Path(entry["file_name"]).name).rename(folder / "train" / entry["file_name"])
    assert open_dataset(folder).findings == ()


def test_another_picture_under_the_name_of_one_with_yolo_labels_is_seen(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(yolo, "MANY_FILES", 0)
    image, label = (tmp_path / "set" / "train" / name for name in ("images/a.png", "labels/a.txt"))
    for path in (image, label):
        path.parent.mkdir(parents=True)
    label.write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "set" / "data.yaml").write_text("names: [crack]\n")
    for width in (40, 60):
        Image.new("RGB", (width, 30)).save(image)
        assert open_dataset(tmp_path / "set").split("train").images[0].width == width
    assert len(kept(tmp_path / "set")) == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "segmentation", "array", "text", "header", "folder"])
def test_a_damaged_index_is_built_again(folder, monkeypatch, damage):
    first = everything(open_dataset(folder))
    (file,) = kept(folder)
    content = bytearray(file.read_bytes())
    file.unlink()
    if damage == "folder":
        file.mkdir()
    else:
        begin = int.from_bytes(content[-28:-20], "little")
        content[begin // 2] ^= 1 if damage == "segmentation" else 0
        content[begin + 100] ^= 1 if damage == "array" else 0
        content[-40] ^= 1 if damage == "header" else 0
        pieces = {"cut": content[:-50], "empty": b"", "text": b"no index at all, but long enough to be one"}
        file.write_bytes(pieces.get(damage, content))
    builds = built(monkeypatch)
    assert everything(open_dataset(folder)) == first and len(builds) == 1
    if damage != "folder":
        assert everything(open_dataset(folder)) == first and len(builds) == 1


def test_any_flipped_byte_is_noticed(tmp_path):
    writer = IndexWriter()
    writer.add_text(b"[[1,2,3,4,5,6]]")
    writer.finish({"first": np.arange(5)}, {"names": ["a"]})
    content = bytes(writer.in_memory().text.obj)
    (tmp_path / "index").write_bytes(content)
    assert bytes(Index.open(tmp_path / "index").text) == b"[[1,2,3,4,5,6]]"
    for place in range(len(content)):
        broken = bytearray(content)
        broken[place] ^= 0x55
        (tmp_path / "index").write_bytes(broken)
        with pytest.raises(ValueError):
            Index.open(tmp_path / "index")


def test_a_file_that_is_cut_off_while_it_is_read_ends_nothing(folder):
    path = folder / "train" / "_annotations.coco.json"
    wanted = list(CocoFile(path).annotations(lambda share: None))
    file = CocoFile(path)
    os.truncate(path, 0)
    assert list(file.annotations(lambda share: None)) == wanted


def test_a_file_that_does_not_fit_into_the_memory_is_told(folder, monkeypatch):
    monkeypatch.setattr(coco_file.psutil, "virtual_memory", lambda: SimpleNamespace(available=100))
    with pytest.raises(DataError, match="fits into the free memory"):
        open_dataset(folder)


def test_a_cache_that_cannot_be_written_is_done_without(folder, monkeypatch, caplog):
    (folder.parent / "file").write_text("")
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(folder.parent / "file" / "cache"))
    assert open_dataset(folder).split("train").num_objects == 24
    assert "cannot be kept" in caplog.text


def test_options_have_indexes_of_their_own(folder):
    open_dataset(folder)
    open_dataset(folder, images=folder)
    assert len(kept(folder)) == 2


def test_nothing_is_written_into_the_dataset(folder):
    before = sorted(folder.rglob("*"))
    open_dataset(folder)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("on_disk", [True, False])
def test_images_travel_to_another_process(folder, monkeypatch, on_disk):
    monkeypatch.setattr(sources, "KEPT_FROM", 0 if on_disk else 2**30)
    images = open_dataset(folder).split("train").images
    sent = pickle.dumps(images[2:5])
    assert list(pickle.loads(sent)) == list(images[2:5])
    assert pickle.loads(pickle.dumps(images[3])) == images[3]
    if on_disk:
        assert len(sent) < 1500  # the path of the index, not its content
        change_file(folder)
        open_dataset(folder)
        with pytest.raises(DataError, match="changed while"):
            pickle.loads(sent)


def test_opening_at_once_disturbs_nobody(folder):
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: everything(open_dataset(folder)), range(8)))
    assert all(one == opened[0] for one in opened)
    assert len(kept(folder)) == 1  # and nothing half written


class TestImageTable:
    """Arrays and records tell the same."""

    @pytest.fixture
    def images(self, folder):
        data = coco(images=6, objects=3)
        data["annotations"].reverse()
        data["annotations"][0]["iscrowd"] = 1
        data["annotations"][4]["category_id"] = 99
        data["annotations"][5]["bbox"] = "none"
        data["annotations"][5].pop("segmentation")
        write_split(folder / "train", data)
        (folder / "train" / data["images"][1]["file_name"]).unlink()
        return open_dataset(folder).split("train").images

    @pytest.mark.parametrize("cut", [slice(None), slice(1, 4), slice(None, None, -2), slice(3, 3)])
    def test_arrays_are_those_of_the_records(self, images, cut):
        table = images[cut]
        records = list(table)
        items = [item for record in records for item in record.annotations]
        assert table.names == [record.file_name for record in records]
        assert table.sizes_wh.tolist() == [[record.width, record.height] for record in records]
        assert table.missing.tolist() == [record.missing for record in records]
        assert table.counts.tolist() == [len(record.annotations) for record in records]
        assert [table.categories[number] for number in table.category_index] == [item.category for item in items]
        assert [tuple(box) for box in table.boxes_xywh.tolist()] == [item.bbox_xywh for item in items]
        assert table.iscrowd.tolist() == [item.iscrowd for item in items]
        numbers = [number for number, record in enumerate(records) for _ in record.annotations]
        assert table.image_index.tolist() == numbers

    def test_a_slice_is_like_a_list(self, images):
        assert list(images[1:5][::-1]) == list(images)[1:5][::-1]
        assert images[-1] == list(images)[-1] and images[2] in images
        assert list(images.take(~images.missing)) == [image for image in images if not image.missing]
        with pytest.raises(IndexError):
            images[len(images)]

    def test_annotations_keep_the_files_order_within_an_image(self, images):
        for image in images:
            ids = [item.id for item in image.annotations]
            assert ids == sorted(ids, reverse=True)


class TestHostileFiles:
    """One sentence each, in bounded memory."""

    def open(self, folder: Path, content: bytes) -> str:
        (folder / "train" / "_annotations.coco.json").write_bytes(content)
        with pytest.raises(DataError) as caught:
            open_dataset(folder)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
        return caught.value.message

    def test_an_entry_as_large_as_the_file(self, folder, monkeypatch):
        monkeypatch.setattr(coco_file, "MAX_ENTRY_BYTES", 2000)
        entry = b'{"id": 1, "file_name": "a.png", "width": 9, "height": 9, "x": [' + b"1," * 5000 + b"1]}"
        assert "megabytes" in self.open(folder, b'{"images": [%b, {}]}' % entry)

    def test_more_entries_than_fit(self, folder, monkeypatch):
        monkeypatch.setattr("sam3_lora.data.index.image_reader.MAX_IMAGES", 10)
        entries = [{"id": i, "file_name": f"{i}.png", "width": 9, "height": 9} for i in range(200)]
        assert "at most 10 images" in self.open(folder, json.dumps({"images": entries}).encode())

    def test_a_large_file_that_breaks_the_rules_of_json(self, folder, monkeypatch):
        monkeypatch.setattr(coco_file, "LENIENT_UP_TO", 1000)
        data = coco(images=12)
        data["annotations"][0]["bbox"][0] = float("nan")
        assert "not JSON" in self.open(folder, json.dumps(data).encode())

    @pytest.mark.parametrize("key", ["images", "annotations", "categories", "other"])
    def test_deep_nesting_anywhere(self, folder, key):
        data = {"images": "[]", "annotations": "[]", "categories": "[]"} | {key: "[" * 100_000 + "]" * 100_000}
        content = "{" + ", ".join(f'"{name}": {value}' for name, value in data.items()) + "}"
        assert "not JSON" in self.open(folder, content.encode())

    @pytest.mark.parametrize("entries", ["1," * 3000 + "1", "[]," * 3000 + "[]", '"},{",' * 300 + "{}"])
    def test_lists_of_anything_else(self, folder, entries):
        text = f'{{"images": [{entries}], "annotations": [{entries}]}}'
        (folder / "train" / "_annotations.coco.json").write_text(text)
        assert {finding.kind for finding in open_dataset(folder).findings} >= {"bad-image"}

    def test_numbers_out_of_range_are_faults_of_their_entry(self, folder):
        text = json.dumps(coco(images=12)).replace('"bbox": [', '"bbox": [1e999, ', 1)
        (folder / "train" / "_annotations.coco.json").write_text(text)
        dataset = open_dataset(folder)
        assert [finding.kind for finding in dataset.findings] == ["bad-bbox"]

    def test_pieces_that_could_be_cut_inside_entries(self, folder):
        data = coco(images=12)
        for entry in data["annotations"]:
            entry["keypoints"] = [{"x": 1}, {"x": 2}, {"note": '},{ \\" },{'}] * 20
        (folder / "train" / "_annotations.coco.json").write_text(json.dumps(data))
        dataset = open_dataset(folder)
        assert dataset.findings == () and dataset.split("train").num_objects == 24
