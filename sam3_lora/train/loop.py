"""fit(): epoch -> steps -> evaluate -> checkpoint -> report, readable from top to bottom."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from typing import Any

from sam3_lora.errors import TrainingError
from sam3_lora.runs.fingerprint import changes
from sam3_lora.runs.requests import ONE_SHOT_REQUESTS
from sam3_lora.runs.run import Run, Status
from sam3_lora.runs.writer import RunWriter, SilentWriter
from sam3_lora.text import plural
from sam3_lora.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from sam3_lora.train.clock import Clock
from sam3_lora.train.control import ENDINGS, Control
from sam3_lora.train.evaluation import Evaluation, evaluate
from sam3_lora.train.memory import advice, explain_oom, used_bytes
from sam3_lora.train.model_card import model_card
from sam3_lora.train.preflight.checks import check_early_stopping
from sam3_lora.train.reload_check import verify_reload
from sam3_lora.train.sample_predictions import SampleWriter
from sam3_lora.train.setup import Setup, device_lock, make_accelerator, one_at_a_time, prepare
from sam3_lora.train.step import NotFinite, StepMetrics, file_names, take_step

COMPONENTS_EVERY = 20  # steps between two looks at each component's gradient
MAX_SKIPPED = 3  # steps in a row that do not fit into memory
_PAUSE_S = 0.2


def fit(run: Run, *, resume: bool = False, accelerator: Any = None) -> Status:
    """Trains the adapter that a run's configuration describes, and writes the run's folder.

    Args:
        run: the run to train; its folder gets metrics, log, samples, adapters, checkpoints and status.
        resume: go on from the run's newest checkpoint instead of from step 0.
        accelerator: the process's accelerate.Accelerator, if one has been made already (several GPUs).

    Returns:
        The final status: "finished" or "stopped". A run that was to be discarded is gone.

    Raises:
        Sam3LoraError: a mistake the user can mend; it is the run's "failed" message too.
    """
    main = accelerator is None or accelerator.is_main_process
    with run.writing() if main else nullcontext(SilentWriter()) as report, one_at_a_time():
        config = run.config
        if error := check_early_stopping(config):
            raise error
        accelerator = accelerator or make_accelerator(config.training)
        with device_lock(accelerator.device), explain_oom(config, accelerator.device):
            setup = prepare(config, accelerator, log=report.log, fresh=not resume)
            training = Training(run, setup, report)
            if resume:
                training.resume()
            status = training.train()
    if main and training.discarded:
        run.delete()
    return status


class Training:
    """A run made ready, and how far it has come."""

    def __init__(self, run: Run, setup: Setup, report: RunWriter | SilentWriter) -> None:
        self.run = run
        self.setup = setup
        self.report = report
        self.progress = Progress()
        self.stopped = self.discarded = self.has_learned_enough = False
        self._skipped_in_a_row = 0
        self._control = Control(run, setup.accelerator)
        self._clock = Clock(setup.length.total_steps)
        self._sampler = (
            SampleWriter(run.folder / "samples", setup, report.log) if setup.accelerator.is_main_process else None
        )

    def resume(self) -> None:
        """Goes on from the newest checkpoint."""
        self.progress, fingerprint = load_checkpoint(self.run, self.setup, self.report.log)
        step = self.progress.step
        self.report.row(kind="resume", step=step)
        self.report.log(f"Resumed after step {step}.")
        if changed := changes(fingerprint, self.setup.fingerprint):
            names = " and ".join(f"'{name}'" for name in changed)
            message = (
                f"The dataset's split {names} has changed since step {step}: losses before and after differ by it."
            )
            self.report.note(step, "dataset-changed", message)

    def train(self) -> Status:
        """Trains to the end, or until asked to stop."""
        self._log_start()
        if self.progress.step == 0:
            self._sample(base=True)
        self._answer_requests()
        if not self._goes_on() and not self.discarded:
            self._save()  # asked to stop before the first step
        while self._goes_on():
            self._train_mode()
            for group in self.setup.train_loader.epoch(self.progress.epoch, skip=self.progress.steps_in_epoch):
                self.step(group)
                self._answer_requests()
                if not self._goes_on():
                    break
            if self._epoch_is_over() or self._is_last_step():
                self._end_epoch()
            if not self.discarded:
                self._save()
            self._clock.forget()
        return self._end()

    def _goes_on(self) -> bool:
        return not (self.stopped or self.has_learned_enough or self._is_last_step())

    def _is_last_step(self) -> bool:
        return self.progress.step >= self.setup.length.total_steps

    def _epoch_is_over(self) -> bool:
        # Beyond, not only at, its end: a dataset that has shrunk since has shorter epochs.
        return self.progress.steps_in_epoch >= self.setup.length.steps_per_epoch

    def _train_mode(self) -> None:
        self.setup.detector.train()
        self.setup.loss.train()

    def step(self, group: list[Any]) -> None:
        """One optimizer step, reported; saves a checkpoint where one is due."""
        progress, every = self.progress, self.setup.config.training.checkpoint_every
        number = progress.step + 1
        try:
            outcome = take_step(self.setup, group, by_component=number == 1 or number % COMPONENTS_EVERY == 0)
        except NotFinite as error:
            self.report.note(number, "not-finite", error.message + ".", images=error.images)
            raise
        progress.step = number
        progress.steps_in_epoch += 1
        if outcome is None:
            self._tell_skipped(file_names(group))
        else:
            self._skipped_in_a_row = 0
            self._log_step(outcome)
        if every and number % every == 0:
            self._save()

    def _tell_skipped(self, images: tuple[str, ...]) -> None:
        self.progress.skipped += 1
        self._skipped_in_a_row += 1
        step = self.progress.step
        message = f"Step {step} was skipped: it does not fit into memory with {', '.join(images)}."
        self.report.row(kind="skipped", step=step, images=images, message=message)
        self.report.log(message)
        self.report.update(step=step, skipped_steps=self.progress.skipped)
        if self._skipped_in_a_row == MAX_SKIPPED:
            raise TrainingError(
                f"{MAX_SKIPPED} steps in a row did not fit into the memory of {self.setup.accelerator.device}",
                advice(self.setup.config),
            )

    def _answer_requests(self) -> None:
        """Does what was asked for since the last step, and waits while the run is paused."""
        asked = self._control.asked()
        if "pause" in asked and not asked & ENDINGS:
            self._save()
            self.report.log("Paused.")
            self.report.update(force=True, state="paused", eta_seconds=None)
            while "pause" in asked and not asked & ENDINGS:
                self._do_errands(asked)
                time.sleep(_PAUSE_S)
                asked = self._control.asked()
            self.report.log("Continued.")
            self.report.update(force=True, state="running")
            self._clock.forget()
        self._do_errands(asked)
        self.stopped = bool(asked & ENDINGS)
        self.discarded = "discard" in asked

    def _do_errands(self, asked: frozenset[str]) -> None:
        if not asked & ONE_SHOT_REQUESTS:
            return
        if "validate" in asked:
            self.validate()
        if "sample" in asked:
            self._sample()
        if "save" in asked:
            self._save()
            self.report.log(f"Saved after step {self.progress.step}.")
        for what in asked & ONE_SHOT_REQUESTS:  # not before: whoever looks sees what is being done
            self._control.done(what)
        self._train_mode()
        self._clock.forget()

    def _end_epoch(self) -> None:
        """Evaluates, and moves on to the next epoch; finishes early when it has been in vain too often."""
        if not self.discarded:
            result = self.validate()
            self._sample()
            patience = self.setup.config.training.patience
            if result is not None:
                is_best = self.progress.best_step == self.progress.step
                self.progress.stale_epochs = 0 if is_best else self.progress.stale_epochs + 1
                self.has_learned_enough = 0 < patience <= self.progress.stale_epochs
        if self._epoch_is_over():
            self.progress.epoch += 1
            self.progress.steps_in_epoch = 0

    def validate(self) -> Evaluation | None:
        """Measures on the validation split and keeps the best adapter; None without a split to measure on."""
        result = evaluate(self.setup)
        if result is None:
            return None
        progress, epoch = self.progress, self.progress.epoch + 1
        if not math.isfinite(result.loss.total):
            message = "The validation loss is not finite; no adapter counts as best here."
            self.report.note(progress.step, "not-finite-validation", message)
            return result
        self.report.row(kind="validation", step=progress.step, epoch=epoch, **result.columns())
        self.report.log(
            f"Epoch {epoch}, step {progress.step}: validation loss {result.loss.total:.3f}, "
            f"F1 of boxes {result.box_f1_50:.2f}."
        )
        if progress.best_loss is None or result.loss.total < progress.best_loss:
            progress.best_loss, progress.best_step = result.loss.total, progress.step
            self._save_adapter("best")
            self.report.update(force=True, best_validation_loss=progress.best_loss, best_step=progress.best_step)
        return result

    def _sample(self, base: bool = False) -> None:
        if self._sampler is not None:
            self._sampler.write(self.progress.step, base)

    def _save(self) -> None:
        """The checkpoint first: it is what a run goes on from."""
        save_checkpoint(self.run, self.setup, self.progress)
        self._save_adapter("last")

    def _save_adapter(self, kind: str) -> None:
        card = model_card(self.setup, self.progress, kind)
        self.setup.save_adapter(self.run.folder / "adapters" / kind, card)

    def _end(self) -> Status:
        state = "stopped" if self.stopped and not self._is_last_step() else "finished"
        message = ""
        if self.has_learned_enough and not self._is_last_step():
            in_vain = self.progress.stale_epochs
            many = f"{in_vain} epochs in a row have" if in_vain > 1 else "The last epoch has"
            message = f"{many} not lowered the best validation loss."
        proof = "" if self.discarded else self._prove()
        self.report.log(f"{state.capitalize()} after {plural(self.progress.step, 'step')}. {message}".rstrip())
        self.report.update(force=True, state=state, message=message, eta_seconds=None, reload_proof=proof)
        return self.report.status

    def _prove(self) -> str:
        """Loads the saved adapter afresh, in the main process."""
        if not self.setup.accelerator.is_main_process:
            return ""
        proof = verify_reload(self.setup, self.run.folder / "adapters" / "last")
        self.report.log(f"Reload proof: {proof}")
        return proof

    def _log_start(self) -> None:
        length, progress = self.setup.length, self.progress
        self.report.update(
            force=True,
            state="running",
            step=progress.step,
            epoch=progress.epoch + 1,
            epochs=length.epochs,
            total_steps=length.total_steps,
            best_validation_loss=progress.best_loss,
            best_step=progress.best_step,
            skipped_steps=progress.skipped,
            device=str(self.setup.accelerator.device),
            reload_proof="",
        )

    def _log_step(self, outcome: StepMetrics) -> None:
        step, epoch = self.progress.step, self.progress.epoch + 1
        speed = self._clock.tick(step, outcome.images)
        memory = used_bytes(self.setup.accelerator.device)
        speed_only = {"images_per_second": speed["images_per_second"], "memory_bytes": memory}
        self.report.row(kind="step", step=step, epoch=epoch, **outcome.columns(), **speed_only)
        self.report.update(step=step, epoch=epoch, memory_bytes=memory, **speed)
