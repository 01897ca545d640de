"""Any list of edits on any dataset gives a dataset that opens, or one sentence; its own files stay as they are."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sam3_lora.data.dataset import Dataset, open_dataset
from sam3_lora.data.edits import kinds
from sam3_lora.data.edits.file import edits_text, parse_edits
from sam3_lora.data.edits.kinds import AnyEdit, EditList
from sam3_lora.data.edits.mending import Examined, changes, mend
from sam3_lora.data.edits.writing import write_dataset
from sam3_lora.data.findings.messages import WORDINGS
from sam3_lora.data.index.objects.box_layouts import LAYOUTS
from sam3_lora.errors import DataError
from tests.data.test_mutations import check, mutate
from tests.factories import coco, write_split


def tree(folder: Path) -> str:
    """A hash of all names and bytes in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path).encode() + (path.read_bytes() if path.is_file() else b""))
    return digest.hexdigest()


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("mutated")
    data = coco(images=3)
    for name in ("train", "valid"):
        write_split(folder / name, data)
    return folder, data


def any_edit(rng: random.Random, dataset: Dataset | None) -> AnyEdit:
    """An edit of what is there, or of what is not."""
    splits = dict(dataset.splits) if dataset else {}
    split = rng.choice([*splits, "gone"])
    table = splits[split].images if split in splits else []
    records = {record.file_name: record for record in table}
    names = tuple(rng.choice([*records, "x.png"]) for _ in range(rng.randint(1, 3)))
    objects = {
        name: tuple(rng.choice([*(item.id for item in records[name].annotations), 77]) for _ in range(2))
        for name in names
        if name in records
    }
    image = names[0]
    categories = [*(dataset.categories if dataset else ()), "x"]
    of_objects = [kind for kind in kinds.ObjectEdit.__subclasses__() if kind is not kinds.RelabelObjects]
    makers = [
        lambda: kinds.ExcludeImages(split, names),
        lambda: rng.choice(of_objects)(split, objects),
        lambda: rng.choice(of_objects)(split, objects),
        lambda: kinds.RelabelObjects(split, objects, rng.choice(categories)),
        lambda: kinds.MergeObjects(split, image, objects.get(image, (1, 2))),
        lambda: kinds.ReadBoxes(split, rng.choice([*LAYOUTS]), rng.random() < 0.5),
        lambda: kinds.ReadKeys(split, {rng.choice(["annotations", "bbox", "segmentation"]): "masks"}),
        lambda: kinds.FitToImage(split, names, rng.choice(["entry", "file", (7, 2**28)])),
        lambda: kinds.MergeEntries(split, names),
        lambda: kinds.RenameCategories({rng.choice(categories): rng.choice(categories)}),
        lambda: kinds.ExcludeCategories((rng.choice(categories),)),
        lambda: kinds.KeepPerCategory(split, rng.randint(1, 4)),
        lambda: kinds.MoveImages(split, names, rng.choice(["train", "valid", "new"])),
        lambda: kinds.Accept((rng.choice([*WORDINGS]),)),
    ]
    return rng.choice(makers)()


def opened(folder: Path, edits: EditList) -> Dataset | None:
    try:
        dataset = open_dataset(folder, edits=edits)
    except DataError as error:
        assert "\n" not in str(error)
        return None
    check(dataset)
    return dataset


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(st.randoms(use_true_random=False), st.integers(0, 4), st.integers(1, 6))
def test_any_edits_of_any_dataset_open_or_say_why(sound, rng, mutations, count):
    folder, sound_data = sound
    data = copy.deepcopy(sound_data)
    for _ in range(mutations):
        mutate(data, rng)
    (folder / "train" / "_annotations.coco.json").write_text(json.dumps(data))
    before = tree(folder)
    plain = opened(folder, EditList())
    edits = EditList(tuple(any_edit(rng, plain) for _ in range(count)))
    edited = opened(folder, edits)
    assert (plain is None) == (edited is None)
    assert parse_edits(edits_text(edits), "edits") == edits
    if edited is not None and rng.random() < 0.3:
        out = folder.parent / "written"
        shutil.rmtree(out, ignore_errors=True)
        wanted = {name: len(split.images) - int(split.images.missing.sum()) for name, split in edited.splits.items()}
        wanted = {name: count for name, count in wanted.items() if count}
        if not wanted:
            with pytest.raises(DataError, match="no image"):
                write_dataset(edited, out)
            return
        written = write_dataset(edited, out, link=True)
        again = open_dataset(out)
        check(again)
        assert written.images == sum(wanted.values())
        assert {name: len(split.images) for name, split in again.splits.items()} == wanted
        of_present = sum(split.present().num_objects for split in edited.splits.values() if len(split.images))
        assert sum(split.num_objects for split in again.splits.values()) >= of_present
    assert tree(folder) == before


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(st.randoms(use_true_random=False), st.integers(1, 4))
def test_what_is_mended_is_gone_from_any_dataset(sound, rng, mutations):
    folder, sound_data = sound
    data = copy.deepcopy(sound_data)
    for _ in range(mutations):
        mutate(data, rng)
    (folder / "train" / "_annotations.coco.json").write_text(json.dumps(data))
    if (plain := opened(folder, EditList())) is None:
        return
    start = Examined.of(plain, deep=False)
    edits, after = mend(start, lambda edits: open_dataset(folder, edits=edits), EditList())
    check(after.dataset)
    difference = changes(start, after)
    assert not {"edits-unfit"} & {kind for kind, _ in difference.new}
    assert bool(edits) == bool(difference.mended)
