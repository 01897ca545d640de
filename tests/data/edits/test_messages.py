"""Each kind of edit in one line."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from sam3_lora.data.edits import kinds
from sam3_lora.data.edits.messages import describe_edit

EDITS = [
    kinds.ExcludeImages("train", ("a.jpg",)),
    kinds.ExcludeObjects("train", {"a.jpg": (1, "b")}),
    kinds.BoxFromMask("train", {"a.jpg": (1,)}),
    kinds.RemoveMask("train", {"a.jpg": (1,)}),
    kinds.MaskAsRunLengths("train", {"a.jpg": (1,)}),
    kinds.DropShortParts("train", {"a.jpg": (1,)}),
    kinds.RelabelObjects("train", {"a.jpg": (1,)}, "crack"),
    kinds.MergeObjects("train", "a.jpg", (1, 2)),
    kinds.CrowdsToObjects("train"),
    kinds.ReadBoxes("train", "as-centers", fractions=True),
    kinds.ReadKeys("train", {"bbox": "box"}),
    kinds.FitToImage("train"),
    kinds.MergeEntries("train", ("a.jpg",)),
    kinds.RenameCategories({"Crack": "crack"}),
    kinds.ExcludeCategories(("crack",)),
    kinds.KeepPerCategory("train", 3),
    kinds.MoveImages("train", ("a.jpg",) * 2_000, "valid"),
    kinds.Accept(("bad-bbox",), "train"),
]


def test_every_kind_is_here() -> None:
    union = {one for part in get_args(kinds.AnyEdit) for one in (get_args(part) or (part,))}
    assert {type(edit) for edit in EDITS} == union


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: type(edit).__name__)
def test_an_edit_in_one_line_names_what_it_is_about(edit: kinds.AnyEdit) -> None:
    line = describe_edit(edit)
    assert "\n" not in line and 5 < len(line) <= 300
    assert ("train" in line) == ("train" in msgspec.json.encode(edit).decode())
