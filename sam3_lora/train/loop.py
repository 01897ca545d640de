"""The training loop: epochs, steps, validation, checkpoints and requests, readable from top to bottom."""

from __future__ import annotations

import math
import shutil
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

from sam3_lora.data.samples import Batch
from sam3_lora.data.worker_processes import explain_lost_workers
from sam3_lora.errors import NotFiniteError, TrainingError
from sam3_lora.runs.fingerprint import changes
from sam3_lora.runs.metrics import BEST_BY, Row, validation_numbers
from sam3_lora.runs.requests import ENDINGS, ONE_SHOT_REQUESTS, Request
from sam3_lora.runs.run import Run, State, Status
from sam3_lora.runs.writer import RunWriter, SilentWriter
from sam3_lora.text import plural
from sam3_lora.train.accelerator import device_lock, from_main, make_accelerator, one_at_a_time
from sam3_lora.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from sam3_lora.train.data_loaders import LeftOutImages
from sam3_lora.train.memory import advice, explain_oom, used_bytes
from sam3_lora.train.model_card import model_card
from sam3_lora.train.preflight.checks import check_early_stopping
from sam3_lora.train.reload_check import verify_reload
from sam3_lora.train.resolve import resolve_run
from sam3_lora.train.sample_predictions import SampleWriter
from sam3_lora.train.setup import Setup, prepare
from sam3_lora.train.splits import run_splits
from sam3_lora.train.step import StepMetrics, file_names, take_step
from sam3_lora.train.validation import ValidationMetrics, validate

if TYPE_CHECKING:
    from accelerate import Accelerator

COMPONENTS_EVERY = 20  # steps between two measurements of each component's gradient norm
MAX_SKIPPED = 3  # steps in a row that do not fit into memory
REPLAY_FOLDER = "replay"  # of a run: the base model's answers, until it is finished
_PAUSE_S = 0.2


def fit(run: Run, *, resume: bool = False, accelerator: Accelerator | None = None) -> Status:
    """Trains the adapter that a run's configuration describes, and writes the run's folder.

    Args:
        run: the run to train; its folder gets metrics, log, samples, adapters, checkpoints and status.
        resume: continue from the run's newest checkpoint instead of from step 0.
        accelerator: the process's, if one has been made already (several GPUs).

    Returns:
        The final status: "finished" or "stopped". The folder of a discarded run is deleted.

    Raises:
        Sam3LoraError: a mistake the user can fix; it is the run's "failed" message too.
    """
    main = accelerator is None or accelerator.is_main_process
    with run.writing() if main else nullcontext(SilentWriter()) as report:
        training = train_run(run, report, resume=resume, accelerator=accelerator)
    if main and training.discarded:
        run.delete()
    return report.status


def train_run(
    run: Run, report: RunWriter | SilentWriter, *, resume: bool, accelerator: Accelerator | None = None
) -> Training:
    """As :func:`fit`, of a run that is held already; a discarded one is not deleted yet."""
    with one_at_a_time():
        config = run.config
        accelerator = accelerator or make_accelerator(config.training)
        device = accelerator.device
        with device_lock(device), explain_oom(config, device), explain_lost_workers():
            splits = run_splits(run, accelerator, report, resume=resume)
            if splits.held_out is not None and not resume:
                report.note(0, "held-out", splits.use.sentence)
            else:
                report.log(splits.use.sentence)
            if error := check_early_stopping(config, splits.valid is not None):
                raise error
            resolved = resolve_run(run, splits, accelerator, report)
            setup = prepare(resolved, accelerator, log=report.log, fresh=not resume, splits=splits)
            training = Training(run, setup, report)
            if resume:
                training.resume()
            training.train()
    return training


class Training:
    """A run in progress.

    Args:
        run: its folder.
        setup: model, data and optimizer.
        report: writes metrics, log and status.
    """

    def __init__(self, run: Run, setup: Setup, report: RunWriter | SilentWriter) -> None:
        self.run = run
        self.setup = setup
        self.report = report
        self.progress = Progress(best_by=setup.config.training.select_best_by)
        self.stopped = self.closing = self.discarded = self.stops_early = False
        self._skipped_in_a_row = 0
        self._left_out = LeftOutImages(report, setup.accelerator)
        self._speed = _Speed(setup.plan.total_steps)
        self._samples = (
            SampleWriter(run.folder / "samples", setup, report) if setup.accelerator.is_main_process else None
        )

    def resume(self) -> None:
        """Continues from the newest checkpoint."""
        restored = load_checkpoint(self.run, self.setup, self.report.log)
        self.progress = restored.progress
        step = self.progress.step
        if self.progress.choose_by(by := self.setup.config.training.select_best_by):
            self.report.log(f"From here on the best adapter is the best by its {BEST_BY[by]}.")
        self._left_out.resume(self.run.metrics()[0])
        self.report.row(kind="resume", step=step)
        for sentence in restored.passed_over:
            self.report.note(step, "checkpoint-damaged", f"{sentence} The run goes on from step {step} instead.")
        self.report.log(f"Resumed after step {step}.")
        if changed := changes(restored.fingerprint, self.setup.data.fingerprint):
            names = " and ".join(f"'{name}'" for name in changed)
            message = f"The dataset's split {names} has changed since step {step}: losses are not comparable."
            self.report.note(step, "dataset-changed", message)

    def train(self) -> Status:
        """Trains to the end, or until a request to stop."""
        self._log_start()
        self._prepare()
        if self.progress.step == 0 and not self.stopped:
            self._write_samples(base=True)
        self._handle_requests()
        if not self._continues() and not self.discarded:
            self._save()  # stopped before the first step
        self._end_epoch_if_due()  # where the process before ended between the checkpoint and the evaluation
        while self._continues():
            self.setup.train_mode()
            groups = self.setup.data.train_loader.epoch(self.progress.epoch, skip=self.progress.steps_in_epoch)
            for group in groups:
                self.step(group)
                self._handle_requests()
                if not self._continues():
                    break
            if not self.discarded:
                self._save()  # before the evaluation: until it is done, the steps would not be safe
            self._end_epoch_if_due()
            self._speed.restart()
        return self._end()

    def _prepare(self) -> None:
        """Computes what the steps only read: images through a frozen vision encoder, the base model's answers for
        replay. A request to stop ends it."""
        folder, step = self.run.folder / REPLAY_FOLDER, self.progress.step
        stage, began = "", time.perf_counter()
        for at in self.setup.preparations(folder, self.report.log, lambda one: self._left_out.note(step, [one])):
            if at.stage != stage:
                stage, began = at.stage, time.perf_counter()
            eta = (time.perf_counter() - began) * (at.total - at.done) / at.done if at.done else None
            self.report.update(state="preparing", preparation=at, eta_seconds=eta)
            self._handle_requests()
            if self.stopped:
                break
        self.report.update(force=True, state="running", preparation=None, eta_seconds=None)
        self._speed.restart()

    def step(self, group: list[Batch]) -> None:
        """One optimizer step with its row of metrics; saves a checkpoint where one is due."""
        progress, every = self.progress, self.setup.config.training.checkpoint_every
        number = progress.step + 1
        replay = self.setup.data.replay
        replayed = [] if replay is None else replay.group(number)
        self._left_out.note(number, (one for batch in [*group, *replayed] for one in batch.left_out))
        by_component = number == 1 or number % COMPONENTS_EVERY == 0
        try:
            metrics = take_step(self.setup, group, by_component=by_component, replayed=replayed)
        except NotFiniteError as error:
            self.report.note(
                number, "not-finite", f"{error.message}.", images=error.images, terms_not_finite=error.terms
            )
            raise
        progress.step = number
        progress.steps_in_epoch += 1
        if metrics is None:
            self._log_skipped(file_names(group))
        else:
            self._skipped_in_a_row = 0
            self._log_step(metrics)
        if every and number % every == 0:
            self._save()

    def validate(self) -> ValidationMetrics | None:
        """Measures on the validation split and keeps the best adapter; None without a split to measure on."""
        metrics = validate(self.setup)
        if metrics is None:
            return None
        progress, epoch = self.progress, self.progress.epoch + 1
        self._left_out.note(progress.step, metrics.left_out)
        if not math.isfinite(metrics.loss.total):
            message = "The validation loss is not finite; this adapter is not kept as best."
            self.report.note(progress.step, "not-finite-validation", message)
            return metrics
        row = cast(Row, {"kind": "validation", "step": progress.step, "epoch": epoch, **metrics.columns()})
        self.report.row(**row)
        self.report.log(f"Epoch {epoch}, step {progress.step}: {validation_numbers(row)}.")
        value = metrics.value(progress.best_by)
        if value is None:
            missing = f"There is no {BEST_BY[progress.best_by]} on the images that can be loaded"
            self.report.note(progress.step, "best-by", f"{missing}; this adapter is not kept as best.")
        if progress.is_best(value, metrics.loss.total):
            self._save_adapter("best")
        self.report.update(force=True, **progress.best_columns())
        return metrics

    def _continues(self) -> bool:
        return not (self.stopped or self.stops_early or self._is_last_step())

    def _is_last_step(self) -> bool:
        return self.progress.step >= self.setup.plan.total_steps

    def _epoch_is_over(self) -> bool:
        # Beyond, not only at, its end: a dataset that has shrunk since has shorter epochs.
        return self.progress.steps_in_epoch >= self.setup.plan.steps_per_epoch

    def _end_epoch_if_due(self) -> None:
        """At an epoch's end and after the last step, validates and advances to the next epoch, unless that is done;
        stops early after too many epochs without a better adapter."""
        progress = self.progress
        is_end = self._epoch_is_over() or self._is_last_step()
        if self.discarded or not is_end:
            return
        if self.closing and not self._is_last_step():
            return  # the app waits for the end: it is made when the run is resumed
        if progress.evaluated_step != progress.step:
            metrics = self.validate()
            self._write_samples()
            patience = self.setup.config.training.patience
            if metrics is not None:
                progress.stale_epochs = 0 if progress.best_step == progress.step else progress.stale_epochs + 1
                self.stops_early = 0 < patience <= progress.stale_epochs
            progress.evaluated_step = progress.step
        if self._epoch_is_over():
            progress.epoch += 1
            progress.steps_in_epoch = 0
        if not self._continues():
            self._save()  # the run ends here, and nothing else would keep what was found

    def _pending(self) -> frozenset[Request]:
        """The requests to carry out now, the same in every process."""
        return from_main(self.setup.accelerator, self.run.requests.pending)

    def _handle_requests(self) -> None:
        """Carries out the requests since the last step, and waits while the run is paused."""
        requests = self._pending()
        if "pause" in requests and not requests & ENDINGS:
            self._save()
            self.report.log("Paused.")
            self.report.update(force=True, state="paused", eta_seconds=None)
            while "pause" in requests and not requests & ENDINGS:
                self._handle_one_shot(requests)
                time.sleep(_PAUSE_S)
                requests = self._pending()
            self.report.log("Continued.")
            self.report.update(force=True, state="running")
            self._speed.restart()
        self._handle_one_shot(requests)
        self.stopped = bool(requests & ENDINGS)
        self.closing = requests & ENDINGS == {"close"}
        self.discarded = "discard" in requests

    def _handle_one_shot(self, requests: frozenset[Request]) -> None:
        if not requests & ONE_SHOT_REQUESTS:
            return
        if "validate" in requests:
            self.validate()
        if "sample" in requests:
            self._write_samples()
        if "save" in requests:
            self._save()
            self.report.log(f"Saved after step {self.progress.step}.")
        if self.setup.accelerator.is_main_process:
            for request in requests & ONE_SHOT_REQUESTS:  # not before: until then the page shows what is being done
                self.run.requests.remove(request)
        self.setup.train_mode()
        self._speed.restart()

    def _write_samples(self, base: bool = False) -> None:
        if self._samples is not None:
            self._samples.write(self.progress.step, base)

    def _save(self) -> None:
        """The checkpoint first: it is what a run is resumed from."""
        self._left_out.share(self.progress.step)
        save_checkpoint(self.run, self.setup, self.progress)
        self._save_adapter("last")

    def _save_adapter(self, kind: str) -> None:
        self.setup.save_adapter(self.run.folder / "adapters" / kind, model_card(self.setup, self.progress, kind))

    def _end(self) -> Status:
        state: State = "stopped" if self.stopped and not self._is_last_step() else "finished"
        message = ""
        if self.stops_early and not self._is_last_step():
            stale, best_by = self.progress.stale_epochs, BEST_BY[self.progress.best_by]
            since = f"{stale} epochs in a row have" if stale > 1 else "the last epoch has"
            message = f"Early stopping: {since} not improved the best {best_by}."
        # Who closes the app waits for everything that is done here, and loading a base model takes its time.
        checked = "" if self.discarded or self.closing else self._verify_reload()
        if self.setup.data.replay is not None:
            self.setup.data.replay.close()
        if state == "finished" and self.setup.accelerator.is_main_process:
            shutil.rmtree(self.run.folder / REPLAY_FOLDER, ignore_errors=True)
        interrupted = self.closing and state == "stopped"
        if interrupted:
            message = "It was saved and stopped because the app, or the process that trained it, was told to end."
        self.report.log(f"{state.capitalize()} after {plural(self.progress.step, 'step')}. {message}".rstrip())
        end = {"state": state, "message": message, "interrupted": interrupted, "reload_proof": checked}
        self.report.update(force=True, eta_seconds=None, **end)
        return self.report.status

    def _verify_reload(self) -> str:
        """Loads the saved adapter in the main process and compares its detections."""
        if not self.setup.accelerator.is_main_process:
            return ""
        checked = verify_reload(self.setup, self.run.folder / "adapters" / "last")
        self.report.log(f"Reload check: {checked}")
        return checked

    def _log_start(self) -> None:
        plan, progress = self.setup.plan, self.progress
        self.report.update(
            force=True,
            state="running",
            step=progress.step,
            epoch=progress.epoch + 1,
            epochs=plan.epochs,
            total_steps=plan.total_steps,
            **progress.best_columns(),
            skipped_steps=progress.skipped,
            device=str(self.setup.accelerator.device),
            reload_proof="",
        )

    def _log_step(self, metrics: StepMetrics) -> None:
        step, epoch = self.progress.step, self.progress.epoch + 1
        images_per_second, eta_seconds = self._speed.measure(step, metrics.images)
        measured: dict[str, Any] = {
            "images_per_second": images_per_second,
            "memory_bytes": used_bytes(self.setup.accelerator.device),
        }
        self.report.row(kind="step", step=step, epoch=epoch, **metrics.columns(), **measured)
        self.report.update(step=step, epoch=epoch, eta_seconds=eta_seconds, **measured)

    def _log_skipped(self, images: tuple[str, ...]) -> None:
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


class _Speed:
    """Images per second and remaining seconds, smoothed; validation, checkpoints and pauses do not count."""

    def __init__(self, total_steps: int) -> None:
        self._total_steps = total_steps
        self._last = time.perf_counter()
        self._seconds_per_step: float | None = None

    def restart(self) -> None:
        """Leaves out the time since the last step."""
        self._last = time.perf_counter()

    def measure(self, step: int, images: int) -> tuple[float, float]:
        """Images per second and remaining seconds, at the end of a step over so many images."""
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        previous = self._seconds_per_step
        self._seconds_per_step = seconds if previous is None else 0.9 * previous + 0.1 * seconds
        return images / self._seconds_per_step, (self._total_steps - step) * self._seconds_per_step
