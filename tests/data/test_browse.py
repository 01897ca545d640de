"""The folders that the picker shows: without hidden ones, bounded, and which of them look like datasets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sam3_lora.data import browse as module
from sam3_lora.data.browse import browse, looks_like_dataset
from sam3_lora.errors import DataError


def test_only_visible_folders_are_listed_by_name(tmp_path: Path) -> None:
    for name in ("b", "A", "cracks", ".hidden", "__MACOSX"):
        (tmp_path / name).mkdir()
    (tmp_path / "file.json").write_text("{}")
    found = browse(tmp_path)
    assert [each.path.name for each in found.subfolders] == ["A", "b", "cracks"]
    assert found.found == 3 and found.complete
    assert [each.path.name for each in browse(tmp_path, " CRA").subfolders] == ["cracks"]


def test_a_large_folder_is_looked_at_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(9):
        (tmp_path / f"{number}").mkdir()
    monkeypatch.setattr(module, "MAX_SHOWN", 4)
    found = browse(tmp_path)
    assert (len(found.subfolders), found.found, found.complete) == (4, 9, True)
    monkeypatch.setattr(module, "MAX_SCANNED", 5)
    found = browse(tmp_path)
    assert (found.found, found.complete) == (5, False)


@pytest.mark.parametrize(
    "names", [("train/",), ("val2017/",), ("data.yaml",), ("_annotations.coco.json",), ("my.COCO.json",)]
)
def test_a_dataset_is_known_by_the_names_in_it(tmp_path: Path, names: tuple[str, ...]) -> None:
    (tmp_path / "data").mkdir()
    assert not looks_like_dataset(tmp_path / "data")
    for name in names:
        path = tmp_path / "data" / name
        path.mkdir() if name.endswith("/") else path.write_text("")
    assert [each.looks_like_dataset for each in browse(tmp_path).subfolders] == [True]


def test_a_folder_that_cannot_be_listed_gives_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nowhere", tmp_path / "file", Path("a\0b")):
        with pytest.raises(DataError):
            browse(path)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o000)
    assert [each.looks_like_dataset for each in browse(tmp_path).subfolders] == [False]
    if os.geteuid():  # root may read everything
        with pytest.raises(DataError, match="ermission"):
            browse(locked)
