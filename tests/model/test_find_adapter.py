"""Which adapter a path means, and what is said where it means none. Settings alone make a folder an adapter's here."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam3_lora.errors import ModelError
from sam3_lora.model.adapter_files.find_adapter import SETTINGS, find_adapter


def make(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text("")
    return root


RUN = ("run/config.yaml", "run/status.json", "run/checkpoints/step-00000010.pt")
BEST, LAST = f"run/adapters/best/{SETTINGS}", f"run/adapters/last/{SETTINGS}"


@pytest.mark.parametrize(
    "given",
    [
        "run/adapters/best",
        "run/adapters/best/adapter_model.safetensors",
        f"run/adapters/best/{SETTINGS}",
        "run/adapters/best/README.md",
        "run/adapters",
        "run",
        "run/adapters/../adapters/best",
    ],
)
def test_the_folder_a_file_in_it_and_its_run_mean_the_best_adapter(tmp_path: Path, given: str) -> None:
    more = (f"run/adapters/best/{name}" for name in ("adapter_model.safetensors", "README.md"))
    make(tmp_path, *RUN, BEST, LAST, *more)
    assert find_adapter(tmp_path / given).resolve() == tmp_path / "run/adapters/best"


def test_a_run_without_a_best_adapter_means_its_last_one(tmp_path: Path) -> None:
    make(tmp_path, *RUN, LAST)
    assert find_adapter(tmp_path / "run") == tmp_path / "run/adapters/last"


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(make(tmp_path, f"mine/{SETTINGS}")))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert find_adapter("~/mine") == tmp_path / "mine"


NAMED = {  # what is given -> what the error must name
    "adapters/best of a run with last alone": (
        [*RUN, LAST],
        "run/adapters/best",
        ["no validation", "run/adapters/last"],
    ),
    "best without adapters": ([*RUN, LAST], "run/best", ["no validation", "run/adapters/last"]),
    "a kind that is none": ([*RUN, BEST, LAST], "run/adapters/bset", ["run/adapters/best", "run/adapters/last"]),
    "a run without adapters": (RUN, "run", ["saved no adapter yet"]),
    "a run's checkpoint": ([*RUN, BEST], "run/checkpoints/step-00000010.pt", ["checkpoint", "run/adapters/best"]),
    "the folder of checkpoints": ([*RUN, BEST], "run/checkpoints", ["run/adapters/best"]),
    "a file of weights": (["x.pt"], "x.pt", ["is a file", SETTINGS, "runs/RUN/adapters/best"]),
    "safetensors alone": (["x.safetensors"], "x.safetensors", ["is a file", SETTINGS]),
    "an archive": (["x.zip"], "x.zip", ["is a file", "Unpack it"]),
    "a trainer's output": (
        [f"out/checkpoint-{step}/{SETTINGS}" for step in (500, 1000)],
        "out",
        ["checkpoint-500, checkpoint-1000", "such as .*checkpoint-1000"],
    ),
    "the folder of runs": ([*RUN, BEST], ".", ["run/adapters/best"]),
    "another folder": (["photos/a.jpg"], "photos", [f"contains no {SETTINGS}"]),
    "nothing": ([], "nowhere", ["there is none"]),
    "too long a name": ([], "x" * 300, ["there is none"]),
}


@pytest.mark.parametrize("case", NAMED)
def test_where_there_is_no_adapter_what_is_there_is_named(tmp_path: Path, case: str) -> None:
    files, given, named = NAMED[case]
    make(tmp_path, *files)
    for part in named:
        with pytest.raises(ModelError, match=part):
            find_adapter(tmp_path / given)


def test_settings_of_a_run_in_the_working_folder_make_no_run_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make(tmp_path, "config.yaml"))
    with pytest.raises(ModelError, match="there is none at nowhere"):
        find_adapter("nowhere")
