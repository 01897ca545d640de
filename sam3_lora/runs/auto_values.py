"""The values that a run's "auto" settings got when it started, and why; kept in its folder beside its settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from sam3_lora.config import RunConfig
from sam3_lora.config.fields import AUTO
from sam3_lora.errors import RunError, explain_os_errors
from sam3_lora.files import MB, atomic_write, read_file
from sam3_lora.runs.metrics import BEST_BY

AUTO_FILE = "auto.json"
Reason = Literal[
    "no-gpu",
    "demo",  # the demo model is small
    "bf16",  # the GPU computes in bf16
    "no-bf16",
    "cores",  # value: as many worker processes as the machine has cores for
    "fits",  # needed_bytes of a step fit into available_bytes
    "does-not-fit",  # with the other value a step would need needed_bytes, more than available_bytes
    "same-images",  # accumulation makes up for a smaller batch
    "negatives",  # training asks for phrases that an image lacks, and validation for some
    "no-negatives",  # training asks for none
    "no-validation",
    "nothing-absent",  # each phrase that validation asks an image for has objects in it
    "nothing-to-find",  # no phrase that validation asks for has objects
    "small-objects",  # share: of the objects that are small in the model's image without tiles
    "many-objects",  # number: of one phrase in one image, more than the model has queries
    "visible",  # whole images are fine
    "as-before",  # the run was begun by an earlier version
]


@dataclass(frozen=True)
class AutoValue:
    """The value of one setting."""

    setting: str  # dotted
    value: int | bool | str
    reason: Reason
    asked: int | str = AUTO  # what the user has set
    needed_bytes: int = 0  # peak memory of a step by the estimate
    available_bytes: int = 0  # of the GPU
    share: float = 0.0  # see Reason
    number: int = 0  # see Reason


def with_auto(config: RunConfig, values: Iterable[AutoValue]) -> RunConfig:
    """A run's settings as the user asked for them: "auto" where the value was chosen."""
    return config.with_settings({each.setting: each.asked for each in values})


def with_values(config: RunConfig, values: Iterable[AutoValue]) -> RunConfig:
    """The settings with the values that were chosen."""
    return config.with_settings({each.setting: each.value for each in values})


def describe(value: AutoValue) -> str:
    """The value and its reason, as one sentence: "Batch size: 2 (auto; ...)."."""
    shown = {True: "on", False: "off"}.get(value.value, value.value) if isinstance(value.value, bool) else value.value
    names = _NAMES.get(value.setting, {})
    how = AUTO if value.asked == AUTO or not names else f"instead of {names.get(value.asked, value.asked)}"
    return f"{_LABELS[value.setting]}: {names.get(shown, shown)} ({how}: {_REASONS[value.reason](value)})."


_LABELS: Mapping[str, str] = {
    "training.precision": "Precision",
    "model.gradient_checkpointing": "Gradient checkpointing",
    "training.batch_size": "Batch size",
    "training.gradient_accumulation_steps": "Gradient accumulation steps",
    "data.tiles": "Tile size",
    "data.num_workers": "Data loading workers",
    "training.select_best_by": "Best adapter by",
}
_NAMES: Mapping[str, Mapping[Any, str]] = {
    "training.select_best_by": BEST_BY,
    "data.tiles": {0: "whole images"},
}  # of values
_REASONS: Mapping[Reason, Callable[[AutoValue], str]] = {
    "no-gpu": lambda it: "the device is no CUDA GPU",
    "demo": lambda it: "the demo model is small",
    "bf16": lambda it: "the GPU computes in bf16",
    "no-bf16": lambda it: "the device is not a GPU with bf16 support",
    "cores": lambda it: "by the number of CPU cores",
    "fits": lambda it: f"a step needs about {_gb(it.needed_bytes)} of {_gb(it.available_bytes)} GB",
    "does-not-fit": lambda it: f"otherwise a step needs about {_gb(it.needed_bytes)} of {_gb(it.available_bytes)} GB",
    "same-images": lambda it: "each step learns from as many images as with a batch of 2",
    "negatives": lambda it: "there are phrases that an image lacks",
    "no-negatives": lambda it: "data.num_negatives is 0",
    "no-validation": lambda it: "there is no validation",
    "nothing-absent": lambda it: "no phrase is absent from an image to validate on, so cgF1 is not defined",
    "nothing-to-find": lambda it: "there is no object to validate on, so F1 and cgF1 are not defined",
    "small-objects": lambda it: (
        f"without tiles {it.share:.0%} of the objects are less than 8 pixels wide or high in the model's image"
    ),
    "many-objects": lambda it: f"an image has {it.number:,} objects of one phrase, more than the model has queries",
    "visible": lambda it: "objects are large enough, and not too many",
    "as-before": lambda it: "the run was begun by an earlier version, which knows no other",
}


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f}"


def read_auto_values(folder: Path) -> tuple[AutoValue, ...]:
    """What a run's folder holds; nothing where no setting was auto.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / AUTO_FILE
    try:
        return msgspec.json.decode(read_file(path, MB), type=tuple[AutoValue, ...])
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path}, which says what was chosen for the settings that were auto, cannot be read ({error})",
            "Delete it: the values that the run used are in config.yaml",
        ) from None


def write_auto_values(folder: Path, values: tuple[AutoValue, ...]) -> None:
    """Writes the file. Raises RunError."""
    path = folder / AUTO_FILE
    with explain_os_errors(RunError, f"{path} cannot be written", "Free some space, then start again"):
        atomic_write(path, msgspec.json.format(msgspec.json.encode(values), indent=1), sync=True)
