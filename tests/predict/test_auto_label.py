"""Labels of a folder: on disk after each image, with the same result whether or not it was killed meanwhile."""

from __future__ import annotations

import errno
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO

from sam3_lora.errors import DataError
from sam3_lora.masks import decode_segmentation, encode_rle
from sam3_lora.predict import auto_label
from sam3_lora.predict.auto_label import ANNOTATIONS, PROGRESS, Settings, label_folder, polygons_of
from sam3_lora.predict.export import FoundImage, FoundObject
from sam3_lora.predict.folder import FolderPrediction, Skipped

NAMES = ["a.jpg", "b.jpg", "sub/c.jpg", "sub/ü.jpg"]
SETTINGS = Settings("/images", ("crack", "pothole"), "demo", 0.5)
SIZE_HW = (40, 60)


def found(name: str) -> FolderPrediction:
    mask = np.zeros(SIZE_HW, bool)
    mask[5:20, 10 : 20 + len(name)] = True
    one = FoundObject("crack", 0.7, (10.0, 5.0, 20.0 + len(name), 20.0), int(mask.sum()), encode_rle(mask))
    return FolderPrediction(FoundImage(name, SIZE_HW, (one,)), np.zeros((*SIZE_HW, 3), np.uint8))


class Model:
    """Predicts images; fails at one, or cannot read one."""

    def __init__(self, fails_at: str = "", unreadable: str = "") -> None:
        self.fails_at, self.unreadable, self.asked = fails_at, unreadable, list[str]()

    def __call__(self, names: list[str]):
        for name in names:
            if name == self.fails_at:
                raise KeyboardInterrupt
            self.asked.append(name)
            yield Skipped(name, "It is cut off.") if name == self.unreadable else found(name)


def test_stopped_labelling_goes_on_and_gives_the_same(tmp_path):
    whole = label_folder(NAMES, SETTINGS, Model(), tmp_path / "whole")
    assert (whole.images, whole.objects, whole.resumed, whole.skipped) == (4, 4, 0, ())
    for stopped_at in NAMES:
        out = tmp_path / stopped_at.replace("/", "-")
        with pytest.raises(KeyboardInterrupt):
            label_folder(NAMES, SETTINGS, Model(stopped_at), out)
        assert len(json.loads((out / ANNOTATIONS).read_text())["images"]) == NAMES.index(stopped_at)
        text = (out / PROGRESS).read_bytes()
        (out / PROGRESS).write_bytes(text + text[-30:-1])  # and killed in the middle of a line
        rest = Model()
        again = label_folder(NAMES, SETTINGS, rest, out)
        assert rest.asked == NAMES[NAMES.index(stopped_at) :] and again.resumed == NAMES.index(stopped_at)
        assert (out / ANNOTATIONS).read_bytes() == whole.file.read_bytes()
    coco = COCO(str(whole.file))
    assert len(coco.anns) == 4 and {entry["score"] for entry in coco.anns.values()} == {0.7}
    assert {entry["name"] for entry in coco.cats.values()} == {"crack", "pothole"}


def test_an_unreadable_image_is_named_and_tried_again(tmp_path):
    first = label_folder(NAMES, SETTINGS, Model(unreadable="b.jpg"), tmp_path / "out")
    assert first.images == 3 and [one.name for one in first.skipped] == ["b.jpg"]
    again = label_folder(NAMES, SETTINGS, Model(), tmp_path / "out")
    assert again.images == 4 and again.resumed == 3


def test_other_settings_and_other_files_are_refused(tmp_path):
    out = tmp_path / "out"
    label_folder(NAMES, SETTINGS, Model(), out)
    before = (out / ANNOTATIONS).read_bytes()
    for other in (Settings("/images", ("crack",), "demo", 0.5), Settings("/images", SETTINGS.phrases, "demo", 0.4)):
        with pytest.raises(DataError):
            label_folder(NAMES, other, Model(), out)
    assert (out / ANNOTATIONS).read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "annotations.json").write_text("{}")
    with pytest.raises(DataError):
        label_folder(NAMES, SETTINGS, Model(), tmp_path / "mine")
    assert (tmp_path / "mine" / "annotations.json").read_text() == "{}"


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    label_folder(NAMES[:2], SETTINGS, Model(), tmp_path / "out")
    before = (tmp_path / "out" / ANNOTATIONS).read_bytes()

    class Full(auto_label.LineFile):
        def write(self, line: str | bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(auto_label, "LineFile", Full)
    with pytest.raises(DataError, match="No space"):
        label_folder(NAMES, SETTINGS, Model(), tmp_path / "out")
    assert len(before) <= len((tmp_path / "out" / ANNOTATIONS).read_bytes())
    monkeypatch.undo()
    assert label_folder(NAMES, SETTINGS, Model(), tmp_path / "out").images == 4


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_polygons_follow_the_mask(seed, blobs):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:80, 0:100]
    mask = np.zeros((80, 100), bool)
    for _ in range(blobs):
        y, x, r = rng.uniform(0, 80), rng.uniform(0, 100), rng.uniform(5, 25)
        mask |= (rows - y) ** 2 + (columns - x) ** 2 <= r**2
    parts = polygons_of(mask)
    if mask.sum() < 50:
        return
    again = decode_segmentation(parts, mask.shape)
    filled = mask | again  # holes are filled
    assert (mask & again).sum() >= 0.93 * mask.sum() and (filled & ~mask).sum() <= 0.1 * mask.sum() + 60
    assert all(min(part) >= -0.5 and max(part[::2]) <= 100.5 and max(part[1::2]) <= 80.5 for part in parts)


def test_polygons_of_little(tmp_path):
    assert polygons_of(np.zeros((9, 9), bool)) == []
    dot = np.zeros((9, 9), bool)
    dot[4, 5] = True
    (part,) = polygons_of(dot)
    assert decode_segmentation([part], dot.shape).sum() <= 4
    label_folder(["a.jpg"], SETTINGS, Model(), tmp_path / "out", polygons=True)
    (entry,) = json.loads((tmp_path / "out" / ANNOTATIONS).read_text())["annotations"]
    assert isinstance(entry["segmentation"], list)
    assert abs(int(decode_segmentation(entry["segmentation"], SIZE_HW).sum()) - entry["area"]) <= 60
