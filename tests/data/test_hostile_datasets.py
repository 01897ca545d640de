"""A corpus of hostile datasets, settings and models: each ends at once, in findings or in one sentence."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sam3_lora.config.yaml_text import read_yaml
from sam3_lora.data.content_hashes import ContentHashes
from sam3_lora.data.dataset import load_image, open_dataset
from sam3_lora.data.doctor.image_probe import probe
from sam3_lora.data.formats.coco import CocoFile
from sam3_lora.data.formats.png_masks import convert_masks
from sam3_lora.data.images import BROKEN, read_image, size_on_disk
from sam3_lora.errors import DataError, ModelError, Sam3LoraError
from sam3_lora.model.base import load_config, obstacle
from sam3_lora.model.base_files.locate import locate
from tests.factories import coco, write_dataset, write_split

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no special files"),
]


def make_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero, without an end
    except OSError:  # only an administrator may
        path.symlink_to("/dev/zero")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        before = os.getcwd()
        os.chdir(path.parent)  # a socket's path is short
        try:
            end.bind(path.name)
        finally:
            os.chdir(before)


SPECIAL: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "device": make_device,
    "socket": make_socket,
    "folder": Path.mkdir,
    "dangling link": lambda path: path.symlink_to("nothing"),
    "link to itself": lambda path: path.symlink_to(path.name),
}


def coco_dataset(root: Path) -> None:
    write_dataset(root)


def coco_own_layout(root: Path) -> None:
    write_split(root / "train2017", coco())
    (root / "annotations").mkdir()
    (root / "train2017" / "_annotations.coco.json").rename(root / "annotations" / "instances_train2017.json")


def saco(root: Path) -> None:
    content = coco()
    for image in content["images"]:
        image |= {"text_input": "crack", "is_instance_exhaustive": 1}
    write_split(root / "train", content)


def yolo(root: Path) -> None:
    write_split(root / "train" / "images", coco())
    names = sorted(path.stem for path in (root / "train" / "images").glob("*.png"))
    (root / "train" / "images" / "_annotations.coco.json").unlink()
    (root / "train" / "labels").mkdir()
    for name in names:
        (root / "train" / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (root / "data.yaml").write_text("train: train/images\nnames: [crack]\n")


def yolo_list(root: Path) -> None:
    yolo(root)
    listed = "".join(f"./train/images/{path.name}\n" for path in (root / "train" / "images").iterdir())
    (root / "train.txt").write_text(listed)
    (root / "data.yaml").write_text("train: train.txt\nnames: classes.txt\n")
    (root / "classes.txt").write_text("crack\n")


def one_json_per_image(root: Path) -> None:
    write_split(root, coco())
    (root / "_annotations.coco.json").unlink()
    for number, path in enumerate(sorted(root.glob("*.png"))):
        image = {"file_name": path.name, "width": 64, "height": 48, "image_id": number}
        annotation = {"id": 0, "bbox": [1, 1, 9, 9], "segmentation": [[1, 1, 9, 1, 9, 9]]}
        path.with_suffix(".json").write_text(json.dumps({"image": image, "annotations": [annotation]}))


PLACES: list[tuple[Callable[[Path], None], str]] = [
    (coco_dataset, "train/_annotations.coco.json"),
    (coco_dataset, "train/*.png"),
    (coco_own_layout, "annotations/instances_train2017.json"),
    (saco, "train/_annotations.coco.json"),
    (yolo, "data.yaml"),
    (yolo, "train/labels/*.txt"),
    (yolo, "train/images/*.png"),
    (yolo_list, "train.txt"),
    (yolo_list, "classes.txt"),
    (one_json_per_image, "*.json"),
    (one_json_per_image, "*.png"),
]


def outcome(root: Path) -> list[str] | Sam3LoraError:
    """The kinds of the findings of a dataset whose images were all opened, or the error."""
    try:
        dataset = open_dataset(root)
        kinds = [finding.kind for finding in dataset.findings]
        for split in dataset.splits.values():
            for image in split.images:
                try:
                    load_image(image)
                except DataError as error:
                    require_sentence(error)
                    kinds.append("not-loaded")
        return kinds
    except Sam3LoraError as error:
        require_sentence(error)
        return error


def require_sentence(error: Sam3LoraError) -> None:
    assert len(str(error)) < 5_000 and "Traceback" not in str(error)


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize(("write", "place"), PLACES, ids=lambda value: getattr(value, "__name__", value))
def test_a_special_file_anywhere_in_a_dataset_is_told(write, place, kind, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    write(root)
    before = outcome(root)
    assert isinstance(before, list) and "not-loaded" not in before
    path = sorted(root.glob(place))[0]
    path.unlink()
    SPECIAL[kind](path)
    found = outcome(root)
    # Without the list the folder tells the same; a file of one image counts as absent.
    assert isinstance(found, Sam3LoraError) or found != before or place in ("train.txt", "*.json")
    path.rmdir() if kind == "folder" else path.unlink()


@pytest.mark.parametrize("kind", SPECIAL)
def test_a_special_file_as_image_mask_settings_or_model_is_told(kind, tmp_path):
    path = tmp_path / "masks" / "a.png"
    path.parent.mkdir()
    SPECIAL[kind](path)
    with pytest.raises(DataError):
        read_image(path)
    assert size_on_disk(path) is None and probe(path).problems
    with pytest.raises(BROKEN):
        ContentHashes(tmp_path / "hashes").of(path)
    write_split(tmp_path / "images", coco(images=1))
    next((tmp_path / "images").glob("*.png")).rename(tmp_path / "images" / "a.png")
    with pytest.raises(DataError):
        convert_masks(tmp_path / "images", tmp_path / "masks", tmp_path / "out", {"1": "crack"})
    for reader, error in ((read_yaml, Sam3LoraError), (CocoFile, DataError), (locate, ModelError)):
        with pytest.raises(error) as raised:
            reader(path)
        require_sentence(raised.value)


@pytest.mark.parametrize("kind", sorted(SPECIAL.keys() - {"folder"}))
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "sam3.pt"])
def test_a_special_file_in_a_model_is_told(kind, name, tmp_path):
    (tmp_path / "other.txt").write_text("x")
    SPECIAL[kind](tmp_path / name)
    with pytest.raises(ModelError) as raised:
        load_config(tmp_path)
    require_sentence(raised.value)
    assert obstacle(tmp_path) is not None


def entry(**changes: Any) -> Callable[[dict], None]:
    """Changes the first annotation."""
    return lambda content: content["annotations"][0].update(changes)


def every_name(name: Callable[[int], str]) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        for number, image in enumerate(content["images"]):
            image["file_name"] = name(number)

    return change


def categories(make: Callable[[int], str], count: int) -> Callable[[dict], None]:
    return lambda content: content["categories"].extend(
        {"id": 10 + number, "name": make(number)} for number in range(count)
    )


CONTENTS: dict[str, Callable[[dict], None]] = {
    "a number of 1e400": entry(bbox=[float("inf"), 0, 1, 1]),
    "nan": entry(bbox=[float("nan")] * 4),
    "a huge whole number": entry(bbox=[10**4000, 0, 1, 1]),
    "huge ids": lambda content: content["images"][0].update(id=2**80),
    "an id of 4000 digits": entry(id=10**4000),
    "an image of 10^9 pixels a side": lambda content: content["images"][0].update(width=10**9, height=10**9),
    "run lengths for 10^18 pixels": entry(segmentation={"size": [10**9, 10**9], "counts": [10**18]}),
    "an endless run length": entry(segmentation={"size": [48, 64], "counts": "~" * 100_000}),
    "surrogates": categories(lambda number: f"\ud800{number}", 1),
    "newlines and controls in a name": every_name(lambda number: f"a\n\r\x1b[31m\x07{number}.png"),
    "NUL in a name": every_name(lambda number: f"a\0{number}.png"),
    "a name that leads out": every_name(lambda number: "../../../../etc/passwd"),
    "an absolute name": every_name(lambda number: "/dev/zero"),
    "a very long name": every_name(lambda number: "a" * 100_000),
    "a category of 100,000 characters": categories(lambda number: "x" * 100_000, 1),
    "100,000 categories": categories(str, 100_000),
    "a category that is a list": lambda content: content["categories"].append({"id": [1], "name": ["x"]}),
}


@pytest.mark.parametrize("change", CONTENTS.values(), ids=CONTENTS)
def test_hostile_values_are_told(change, tmp_path):
    content = coco()
    write_split(tmp_path / "train", content)
    change(content)
    (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps(content))
    found = outcome(tmp_path)
    assert isinstance(found, Sam3LoraError) or found


@pytest.mark.parametrize("brackets", ["[", '{"a":', '{"images":[', '{"annotations":[{"segmentation":['])
@pytest.mark.parametrize("depth", [1_000, 500_000])
def test_deep_nesting_is_told(brackets, depth, tmp_path):
    write_split(tmp_path / "train", coco())
    (tmp_path / "train" / "_annotations.coco.json").write_text(brackets * depth)
    assert isinstance(outcome(tmp_path), Sam3LoraError)


def test_links_in_a_circle_end(tmp_path):
    for write in (coco_dataset, yolo):
        root = tmp_path / write.__name__
        root.mkdir()
        write(root)
        (root / "train" / "again").symlink_to(root, target_is_directory=True)
        (root / "loop").symlink_to("loop")
        assert not isinstance(outcome(root), Sam3LoraError)


def test_a_file_that_is_cut_or_grows_while_it_is_read_is_told(tmp_path, monkeypatch):
    write_split(tmp_path / "train", coco())
    path = tmp_path / "train" / "_annotations.coco.json"
    content = path.read_bytes()
    for changed in (content[: len(content) // 2], content + content):
        path.write_bytes(content)
        opened = CocoFile._open

        def change_then_open(self: CocoFile, changed: bytes = changed, opened: Any = opened) -> None:
            path.write_bytes(changed)
            opened(self)

        with monkeypatch.context() as patch:
            patch.setattr(CocoFile, "_open", change_then_open)
            assert isinstance(outcome(tmp_path), Sam3LoraError)
