"""The broken copy of the demo: what edits can mend is mended and stays so in the dataset that is written; no file of
the original changes, and whatever goes wrong while writing leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import msgspec
import pytest
from pycocotools.coco import COCO

from sam3_lora.config import ASSETS
from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.edits.kinds import EditList, RenameCategories
from sam3_lora.data.edits.mending import Changes, Examined, changes, mend, preview
from sam3_lora.data.edits.remedies import kinds_with_remedy, remedy
from sam3_lora.data.edits.writing import Written, write_dataset
from sam3_lora.data.findings.messages import WORDINGS
from sam3_lora.demo.broken_copy import FAULTS, make_broken_copy
from sam3_lora.errors import DataError
from tests.data.edits.test_mutated import tree
from tests.factories import coco, write_split
from tests.factories import write_dataset as write_sound

# Faults of the broken copy that need a person or another tool: no edit mends them for sure.
LEFT = {
    *("split-unreadable", "no-images", "no-objects", "image-ambiguous", "size-mismatch", "duplicate-image-id"),
    *("duplicate-category-id", "image-gigantic", "image-32-bit", "image-orientation-unclear", "phrase-code"),
    *("phrase-not-english", "phrase-for-nothing", "phrase-with-comma", "phrase-long", "untrained-category"),
    *("few-objects", "leaked-similar", "image-16-bit", "image-animated", "image-cmyk", "box-mask-mismatch"),
    *("object-vanishes", "too-many-objects", "crowds", "unused-category", "image-rotated", "phrase-position"),
    *("class-imbalance", "similar-images", "small-object", "image-transparent", "image-palette"),
}


@pytest.fixture(scope="module")
def mended(tmp_path_factory) -> tuple[Path, EditList, Examined, Changes]:
    root = make_broken_copy(ASSETS / "demo" / "dataset", tmp_path_factory.mktemp("mended") / "broken")
    before = tree(root)
    start = Examined.of(open_dataset(root), deep=True)
    edits, after = mend(start, lambda edits: open_dataset(root, edits=edits), EditList())
    assert tree(root) == before
    return root, edits, after, changes(start, after)


@pytest.fixture(scope="module")
def written(mended, tmp_path_factory) -> Written:
    root, _, after, _ = mended
    before = tree(root)
    found = write_dataset(after.dataset, tmp_path_factory.mktemp("out") / "new")
    assert tree(root) == before
    return found


def test_every_fault_with_a_certain_remedy_is_mended_and_the_rest_is_listed(mended):
    _, _, after, difference = mended
    assert {kind for kind, _ in difference.left} == {finding.kind for finding in after.findings} == LEFT
    assert {kind for kind, _ in difference.mended} - {"box-mask-mismatch"} == set(FAULTS) - LEFT
    assert difference.new == ()
    before, now = difference.numbers["wrong-keys"]
    assert before.objects == 0 < now.objects == now.masks


def test_the_written_dataset_shows_none_of_them(mended, written):
    _, _, after, difference = mended
    again = Examined.of(open_dataset(written.folder), deep=True)
    gone = {kind for kind, _ in difference.mended} - {"box-mask-mismatch"}  # one of train is left
    assert {finding.kind for finding in again.findings} < LEFT and not {one.kind for one in again.findings} & gone
    assert written.missing == (("files", "image-ambiguous.jpg"),)
    for name, of_split in after.dataset.splits.items():
        split = of_split.present()
        if not len(split.images):
            assert name == "no-images" and name not in again.dataset.splits
            continue
        other = again.dataset.split(name)
        assert len(other.images) == len(split.images) and other.num_objects == split.num_objects, name
        counts = {category: count for category, count in split.objects_per_category().items() if count}
        assert counts == {category: count for category, count in other.objects_per_category().items() if count}


def test_pycocotools_reads_it(written, capsys):
    annotations = 0
    for path in sorted(written.folder.glob("*/_annotations.coco.json")):
        data = COCO(str(path))
        annotations += len(data.anns)
        for entry in data.anns.values():
            if entry["segmentation"]:
                assert data.annToMask(entry).sum() == pytest.approx(entry["area"], abs=1)
    assert annotations == written.objects > 300


def test_a_remedy_on_request(mended):
    root, edits, after, _ = mended
    again, found = mend(after, lambda edits: open_dataset(root, edits=edits), edits, ["crowds", "box-mask-mismatch"])
    assert len(again.edits) == len(edits.edits) + 2
    assert {finding.kind for finding in found.findings} == LEFT - {"crowds", "box-mask-mismatch"}
    assert {
        finding.kind for finding in after.findings if (one := remedy(finding, after.dataset)) and one.certain
    } == set()


def test_a_preview_of_each_finding(mended):
    root, *_ = mended
    start = Examined.of(open_dataset(root), deep=True)
    seen = {}
    for finding in start.findings:
        found = preview(finding, start, EditList(), lambda edits: open_dataset(root, edits=edits))
        if found is None:
            assert finding.kind in LEFT
            continue
        seen[finding.kind] = found
        for split, name in found.images:
            assert name in start.dataset.split(split).images.names
    before, after = seen["tiny-object"].numbers["train"]
    assert (before.objects - after.objects, before.images - after.images) == (1, 0)
    assert seen["tiny-object"].images == (("train", "tiny-object.jpg"),) and seen["tiny-object"].certain
    assert seen["phrase-plural"].images == (("categories", "phrase-plural.jpg"),)
    assert seen["crowds"].numbers["train"][1].crowds == 0 and not seen["crowds"].certain


def test_kinds_with_a_remedy_are_kinds():
    assert set(kinds_with_remedy()) < set(WORDINGS)


def test_boxes_are_read_before_the_doctor_judges_them(tmp_path):
    """In fractions, all boxes look like the same tiny one: nothing may be excluded for that."""
    data = coco(images=4, kinds=("box",), categories=("crack",))
    write_split(tmp_path / "train", data)
    wanted = open_dataset(tmp_path).split("train").num_objects
    for entry in data["annotations"]:
        x, y, w, h = entry["bbox"]
        entry["bbox"] = [x / 64, y / 48, w / 64, h / 48]
    (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps(data))
    _, after = mend(
        Examined.of(open_dataset(tmp_path), deep=True), lambda edits: open_dataset(tmp_path, edits=edits), EditList()
    )
    assert after.dataset.split("train").num_objects == wanted


def test_links_take_no_space(mended, tmp_path):
    root, _, after, _ = mended
    write_dataset(after.dataset, tmp_path / "new", link=True)
    assert os.path.samefile(root / "train" / "sound.jpg", tmp_path / "new" / "train" / "sound.jpg")


def test_what_is_known_of_images_is_written_too(tmp_path):
    data = coco(images=2)
    data["images"][0]["neg_category_ids"] = [3]
    data["images"][0]["not_exhaustive_category_ids"] = [1]
    data["annotations"][3]["bbox"], data["annotations"][3]["segmentation"] = [0, 0, 0, 0], None
    data["categories"][1]["supercategory"] = "crack"
    write_split(tmp_path / "old" / "train", data)
    before = open_dataset(tmp_path / "old", edits=EditList((RenameCategories({"pothole": "hole"}),)))
    write_dataset(before, tmp_path / "new")
    after = open_dataset(tmp_path / "new")
    for old, new in zip(before.split("train").images, after.split("train").images, strict=True):
        for name in ("absent_categories", "incomplete_categories", "unusable_categories", "ancestors"):
            assert getattr(old, name) == getattr(new, name), name
    assert after.ancestors == {"hole": ["crack"]}


def test_names_that_only_differ_in_case_or_folder_do_not_collide(tmp_path):
    data = coco(images=3, empty_images=0)
    for entry, name in zip(data["images"], ("a/x.png", "b/X.png", "x.png"), strict=True):
        entry["file_name"] = name
    (tmp_path / "old" / "train" / "a").mkdir(parents=True)
    (tmp_path / "old" / "train" / "b").mkdir()
    write_split(tmp_path / "old" / "train", data)
    write_dataset(open_dataset(tmp_path / "old"), tmp_path / "new")
    names = open_dataset(tmp_path / "new").split("train").images.names
    assert len({name.casefold() for name in names}) == 3 and set(names) <= set(os.listdir(tmp_path / "new" / "train"))


@pytest.mark.parametrize("failing", ["copyfile", "link", "encode"])
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, failing):
    dataset = open_dataset(write_sound(tmp_path / "old"))

    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")

    monkeypatch.setattr({"copyfile": shutil, "link": os, "encode": msgspec.json}[failing], failing, full)
    with pytest.raises(DataError, match="No space left|cannot be linked") as caught:
        write_dataset(dataset, tmp_path / "new", link=failing == "link")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    dataset = open_dataset(write_sound(tmp_path / "old"))
    name = dataset.split("valid").images.names[1]
    (tmp_path / "old" / "valid" / name).unlink()  # since it was opened
    with pytest.raises(DataError, match=name):
        write_dataset(dataset, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_where_nothing_is_written(tmp_path):
    root = write_sound(tmp_path / "old")
    dataset, before = open_dataset(root), tree(root)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    for out in (root, root / "new", tmp_path, tmp_path / "full", tmp_path / "full" / "notes.txt"):
        with pytest.raises(DataError):
            write_dataset(dataset, out)
    assert tree(root) == before and (tmp_path / "full" / "notes.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert write_dataset(dataset, tmp_path / "empty").images == 10
