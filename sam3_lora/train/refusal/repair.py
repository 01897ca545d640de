"""Repairs the refusal of a run's adapter: trains its presence head alone, measures, and keeps the result beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from msgspec.structs import replace as replace_struct

from sam3_lora.config import RunConfig
from sam3_lora.data.dataset import Split, load_image
from sam3_lora.data.records import ImageRecord
from sam3_lora.data.tiles.cut import tiled
from sam3_lora.errors import DataError, RunError
from sam3_lora.evaluate.gain_loss.card import CARD, TITLE
from sam3_lora.files import MB, read_file
from sam3_lora.markdown import with_section, without_section
from sam3_lora.model import lora
from sam3_lora.model.adapter_files import adapter_base, taught_phrases
from sam3_lora.model.adapter_files.adapter_base import AdapterBase
from sam3_lora.model.adapter_files.find_adapter import find_adapter, is_run
from sam3_lora.model.base import load_base, resolve_device
from sam3_lora.model.precision import convert_frozen, resolve_precision
from sam3_lora.predict.predictor import Predictor
from sam3_lora.predict.vision_cache import KeptFeatures
from sam3_lora.runs.fingerprint import changes, fingerprint
from sam3_lora.runs.run import Run
from sam3_lora.tiles import tiling_of
from sam3_lora.train.accelerator import device_lock
from sam3_lora.train.checkpoint import read_checkpoint
from sam3_lora.train.refusal.folders import refusal_folder, run_to_repair
from sam3_lora.train.refusal.head import Weights, train_head, weights_of
from sam3_lora.train.refusal.measure import groups_of, measure
from sam3_lora.train.refusal.pairs import Pairs, pairs_of, together
from sam3_lora.train.refusal.phrases import Words, choose_words, prompts_of
from sam3_lora.train.refusal.report import FILE, RepairReport, card_section, to_bytes
from sam3_lora.train.splits import Splits, splits_of

if TYPE_CHECKING:
    from peft import PeftModel

STEPS = 100
MAX_IMAGES = 128  # trained on, and measured on
Progress = Callable[[float, str], None]
_ASKED, _TRAINED = 0.5, 0.55  # shares of the progress at which these stages end


@dataclass(frozen=True)
class RepairRequest:
    """What is repaired, and where it is computed.

    Attributes:
        adapter: the folder of an adapter in a run's folder.
        steps: of the training, at least 1.
        device: "auto", "cpu", "cuda" or "mps".
        precision: of forward passes, see :meth:`sam3_lora.predict.predictor.Predictor.load`.
    """

    adapter: Path
    steps: int = STEPS
    device: str = "auto"
    precision: str = "auto"


def repair_refusal(request: RepairRequest, progress: Progress = lambda share, what: None) -> RepairReport:
    """Trains the presence head of an adapter alone and keeps the result as the adapter "refusal" of its run.

    Nothing that the head reads changes, so it is computed once per pair of image and phrase; all else is seconds, at
    SAM 3's size, too. A pair takes 6 kB there, and there are at most MAX_IMAGES images with some 30 phrases each:
    25 MB, and 4,000 phrases through the model (without gradients; about 20 s on a large GPU), and as many to measure.
    Images, phrases and steps follow from the run's seed. The adapter itself is only read.

    Args:
        request: what is repaired.
        progress: called with the share done, in [0, 1], and what is being done; an exception that it raises ends the
            repair, which has written nothing then.

    Returns:
        What was done and has changed; it also stands in refusal.json beside the new adapter.

    Raises:
        Sam3LoraError: the adapter is none of a run's or is repaired already, the run is being trained, its dataset is
            gone or has changed, or the result cannot be written.
    """
    adapter = find_adapter(request.adapter)
    run, device = run_to_repair(adapter), resolve_device(request.device)
    with device_lock(device):
        progress(0.0, "Opening the dataset")
        splits = splits_of(run, lambda line: None)
        _require_unchanged(run, splits)
        progress(0.0, "Loading the model")
        peft, predictor = _load(run.config, adapter, request, device)
        report = _Repair(run.config, splits, predictor, request.steps, progress).run(adapter.name)
        _save(peft, run, adapter, report)
    return report


def _require_unchanged(run: Run, splits: Splits) -> None:
    """Raises DataError if the dataset is not the one that the run was trained on, as far as a checkpoint tells."""
    for path in run.checkpoints():
        with suppress(Exception):  # see read_checkpoint; the one before it may be sound
            before = dict(read_checkpoint(path)["fingerprint"])
            break
    else:
        return
    if changed := changes(before, fingerprint(one for one in (splits.train, splits.valid) if one is not None)):
        names = " and ".join(f"'{name}'" for name in changed)
        raise DataError(
            f"The dataset's split {names} has changed since the run {run.name} was trained",
            "Put it back as it was, or train a new run",
        )


def _load(
    config: RunConfig, adapter: Path, request: RepairRequest, device: torch.device
) -> tuple[PeftModel, Predictor]:
    """Base and adapter, whose presence head has low-rank layers to train."""
    precision = resolve_precision(request.precision, device)
    base = load_base(**config.model.loading)
    with torch.random.fork_rng([]):
        torch.manual_seed(config.training.seed)
        peft = lora.load(base.model, adapter, extend="presence_head")
    convert_frozen(base.model, precision)
    base.to(device)
    return peft, Predictor(base, peft, precision)


@dataclass
class _Repair:
    """A repair in progress."""

    config: RunConfig
    splits: Splits
    predictor: Predictor
    steps: int
    progress: Progress

    def run(self, source: str) -> RepairReport:
        """Trains the head and measures; source: name of the adapter."""
        began = time.monotonic()
        seed, words = self.config.training.seed, choose_words(self.config, self.splits.categories)
        images = _some(self.splits.train, self.config, seed)
        asked = self._ask(images, words)
        pairs, before = together(asked), weights_of(self.predictor.detector.base)
        self.progress(_ASKED, "Training the presence head")
        train_head(
            self.predictor,
            pairs,
            self.steps,
            seed,
            lambda share: self.progress(_ASKED + (_TRAINED - _ASKED) * share, "Training the presence head"),
        )
        report = RepairReport(
            made=datetime.now().isoformat(timespec="seconds"),
            source=source,
            seed=seed,
            steps=self.steps,
            seconds=0.0,
            images=len(asked),
            of_images=len(tiled(self.splits.train.images, tiling_of(self.config.data))),
            pairs=len(pairs),
        )
        if (valid := self.splits.valid) is not None:
            report = self._measured(report, valid, words, before)
        return replace_struct(report, seconds=round(time.monotonic() - began, 1))

    def _ask(self, images: Sequence[ImageRecord], words: Words) -> list[Pairs]:
        """The pairs of each image that can be loaded. Raises DataError if there is none."""
        found: list[Pairs] = []
        kept = KeptFeatures(self.predictor)
        for number, image in enumerate(images):
            self.progress(_ASKED * number / len(images), f"Image {number + 1} of {len(images)}")
            rng = np.random.default_rng((self.config.training.seed, 2, number))
            try:
                pixels = load_image(image)
            except DataError:
                continue
            self.predictor.set_image(pixels, backbone=kept.of(image))
            prompts = prompts_of(image, self.splits.categories, self.config, words, rng)
            if (pairs := pairs_of(self.predictor, prompts)) is not None:
                found.append(pairs)
        kept.close()
        if not found:
            raise DataError("None of the training images can be loaded", "Put them back, or train a new run")
        return found

    def _measured(self, report: RepairReport, valid: Split, words: Words, before: Weights) -> RepairReport:
        config, own = self.config, self.config.data.category_phrases
        measured_on = _some(valid, config, config.training.seed)
        preserved = tuple(config.replay.phrases)
        groups = groups_of(valid, own, config.model.base, preserved, words.measured)
        old, new = measure(
            self.predictor,
            measured_on,
            valid.prompt_categories,
            groups,
            own,
            before,
            lambda share: self.progress(_TRAINED + (1 - _TRAINED) * share, "Measuring before and after"),
        )
        return replace_struct(
            report,
            measured_images=len(measured_on),
            of_measured_images=len(tiled(valid.images, tiling_of(config.data))),
            measured_words=groups.unrelated,
            before=old,
            after=new,
        )


def _some(split: Split, config: RunConfig, seed: int) -> Sequence[ImageRecord]:
    """At most MAX_IMAGES images of a split, or their tiles, drawn by the seed, in their order."""
    images = tiled(split.images, tiling_of(config.data))
    chosen = np.random.default_rng((seed, 1)).permutation(len(images))[:MAX_IMAGES]
    return [images[place] for place in np.sort(chosen).tolist()]


def _save(peft: PeftModel, run: Run, adapter: Path, report: RepairReport) -> None:
    """Writes the new adapter beside the other, with what belongs to it and its card with the numbers."""
    if not is_run(run.folder):
        raise RunError(f"The run {run.name} was renamed or deleted meanwhile", "Repair it again")
    known: AdapterBase = adapter_base.read(adapter)
    lora.save(
        peft,
        refusal_folder(adapter),
        run.config.model.base,
        with_section(_card(adapter), "Repaired refusal", card_section(report), before="Settings"),
        processor=known.processor,
        tiles=known.tiles,
        taught=taught_phrases.read(adapter) or (),
        files={FILE: to_bytes(report)},
    )


def _card(adapter: Path) -> str:
    """The model card of an adapter without its evaluation, which is of that adapter; a heading where it has none."""
    with suppress(OSError, UnicodeDecodeError):
        return without_section(read_file(adapter / CARD, 10 * MB).decode("utf-8"), TITLE)
    return "# A LoRA adapter for SAM 3\n"
