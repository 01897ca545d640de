"""Finds the adapter that a path means: an adapter's folder, a file in it, or the run that trained it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sam3_lora.errors import ModelError
from sam3_lora.files import user_path
from sam3_lora.text import first_names

WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
REFUSAL = "refusal"  # the adapter of a run with its presence head trained anew, see sam3_lora/train/refusal
_KINDS = ("best", "last", REFUSAL)  # of a run's adapters, in the order in which one is looked for
_MAX_NAMED = 4
_FIX = "Give a folder that training wrote, such as runs/RUN/adapters/best"


def run_adapters(run: Path) -> dict[str, Path]:
    """The adapters that a run has saved so far, by "best", "last" and REFUSAL; empty if the folder is no run's."""
    folders = {kind: run / "adapters" / kind for kind in _KINDS}
    return {kind: folder for kind, folder in folders.items() if _is_adapter(folder)}


def find_adapter(path: str | Path) -> Path:
    """The folder of an adapter.

    Args:
        path: that folder, a file in it, or the folder of a run: then its best adapter, or the last one if none was
            kept as best. "~" is the home folder.

    Raises:
        ModelError: there is none; it names those nearby.
    """
    given = user_path(path)
    if os.path.isfile(given) and _is_adapter(given.parent):
        return given.parent
    in_run = (folder / kind for folder in (given / "adapters", given) for kind in _KINDS)
    for folder in (given, *in_run):
        if _is_adapter(folder):
            return folder
    raise _no_adapter(given)


def _is_adapter(folder: Path) -> bool:
    return os.path.isfile(folder / SETTINGS)


def _no_adapter(given: Path) -> ModelError:
    is_file, is_folder = os.path.isfile(given), os.path.isdir(given)  # unlike Path's, they never raise
    if nearby := _adapters_below(given) if is_folder else []:
        names = first_names([folder.relative_to(given).as_posix() for folder in nearby], _MAX_NAMED)
        return ModelError(
            f"Expected one adapter, but {given} contains no {SETTINGS}; its subfolders do ({names})",
            f"Give one of them, such as {nearby[-1]}",
        )
    if run := next(filter(is_run, (given, *given.parents[:3])), None):
        return _not_of_run(given, run)
    if is_file:
        return ModelError(
            f"Expected an adapter's folder, with {SETTINGS} and {WEIGHTS}, but {given} is a file",
            "Unpack it, or upload it on the inference page" if given.suffix.lower() == ".zip" else _FIX,
        )
    if is_folder:
        return ModelError(f"Expected an adapter in {given}, but it contains no {SETTINGS}", _FIX)
    return ModelError(
        f"Expected an adapter's folder, but there is none at {given}",
        f"{_FIX}; one on the Hugging Face Hub must be downloaded first",
    )


def is_run(folder: Path) -> bool:
    """Whether a folder is a training run's."""
    return os.path.isfile(folder / "config.yaml") and os.path.isfile(folder / "status.json")


def _not_of_run(given: Path, run: Path) -> ModelError:
    """The error for a run without adapters, or for a path in a run's folder that is no adapter."""
    adapters = run_adapters(run)
    if not adapters:
        return ModelError(
            f"The run in {run} has saved no adapter yet",
            "Wait for its first checkpoint or validation, or give the adapter of another run",
        )
    if given.name == "best" and "best" not in adapters:
        return ModelError(
            f"The run in {run} has no adapter 'best', because no validation chose one, only 'last'",
            f"Give {adapters['last']}",
        )
    if os.path.isfile(given) and given.suffix == ".pt":
        what = f"{given} is a checkpoint, which only resumes its run"
    else:
        what = f"{given} is none" if os.path.exists(given) else f"there is none at {given}"
    return ModelError(f"Expected an adapter's folder, but {what}", f"Give {' or '.join(map(str, adapters.values()))}")


def _adapters_below(folder: Path) -> list[Path]:
    """The adapters one level below, such as checkpoint-500 and checkpoint-1000, or those of the runs there."""
    found = [path.parent for pattern in (SETTINGS, f"adapters/*/{SETTINGS}") for path in folder.glob(f"*/{pattern}")]
    return sorted(
        found, key=lambda path: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]
    )
