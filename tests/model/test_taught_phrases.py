"""The phrases stored with an adapter: saved, read again, bounded, and kept apart from what is no list of phrases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sam3_lora.errors import ModelError
from sam3_lora.model.adapter_files.taught_phrases import FILE, read, write
from sam3_lora.model.merge import merge_into_folder
from sam3_lora.predict.routing import Routing
from tests.hostile_adapters import make_adapter


def test_phrases_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert read(tmp_path) is None and Routing.of(tmp_path) is None
    phrases = ("crack", "damage, severe", "ü" * 1000)
    write(tmp_path, phrases)
    assert read(tmp_path) == phrases
    assert Routing.of(tmp_path) == Routing(phrases)
    assert Routing.of(tmp_path, ["pipe"]) == Routing(("pipe",)), "what is named replaces what is stored"
    assert Routing.of(None, ["pipe"]) is None


@pytest.mark.parametrize("phrases", [["x" * 1001], [f"phrase {n}" for n in range(20_001)], ["ü" * 999] * 600, [""]])
def test_what_would_not_be_read_is_not_written(phrases: list[str], tmp_path: Path) -> None:
    write(tmp_path, phrases)
    assert not list(tmp_path.iterdir())
    (tmp_path / FILE).write_text(json.dumps({"phrases": phrases}))
    with pytest.raises(ModelError, match=FILE):
        read(tmp_path)


@pytest.mark.parametrize("phrases", [[], ["_", " "]])
def test_a_list_without_a_phrase_routes_nothing(phrases: list[str], tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({"phrases": phrases}))
    assert Routing.of(tmp_path) is None


def test_the_card_of_a_merged_model_says_that_it_cannot_route(tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter")
    write(adapter, ["crack"])
    merged = merge_into_folder("demo", adapter, tmp_path / "merged")
    assert "cannot route by phrase" in (merged / "README.md").read_text()
    assert not (merged / FILE).exists()
