"""What a person types as a path may be anything: each reader opens it or says in words that it cannot."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from sam3_lora.config import RunConfig
from sam3_lora.data.dataset import open_dataset
from sam3_lora.errors import Sam3LoraError
from sam3_lora.files import user_path
from sam3_lora.model.adapter_files.find_adapter import find_adapter
from sam3_lora.model.base_files.locate import locate
from sam3_lora.predict.folder import images_in
from sam3_lora.runs.held_out import is_same_path
from sam3_lora.runs.run import Run, list_runs

TYPED = ("~nobody-of-this-name/x", "~no\0body", "nul\0byte", "~\ud800", "\ud800", "a" * 300, "/dev/null/x")
READERS: dict[str, Callable[[str], object]] = {
    "dataset": open_dataset,
    "folder of images": lambda text: open_dataset("demo", images=text),
    "adapter": find_adapter,
    "base": locate,
    "folder to predict": images_in,
    "run": Run.open,
    "runs": list_runs,
    "runs of a config": lambda text: list_runs(RunConfig().with_settings({"output.runs": text}).output.runs_folder),
    "same": lambda text: is_same_path(text, "demo"),
}


@pytest.mark.parametrize("text", TYPED)
@pytest.mark.parametrize("reader", READERS)
def test_a_typed_path_is_read_or_refused_in_words(reader: str, text: str) -> None:
    with suppress(Sam3LoraError):
        READERS[reader](text)


def test_the_home_folder_is_meant_by_a_tilde() -> None:
    assert user_path("~/x") == Path.home() / "x"
    assert user_path("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
