"""fit(): epoch -> steps -> validate -> checkpoint -> report, readable from top to bottom."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import psutil
import torch

from sam3_lora.errors import TrainingError
from sam3_lora.loss import LossReport
from sam3_lora.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from sam3_lora.train.run import Run, RunWriter, Status
from sam3_lora.train.setup import Setup, batches, device_lock, make_accelerator, prepare
from sam3_lora.train.validate import MeanLoss, as_vector, from_vector, mean_loss


def fit(run: Run, *, resume: bool = False, accelerator: Any = None) -> Status:
    """Trains the adapter that a run's configuration describes, and writes the run's folder.

    Args:
        run: the run to train; its folder gets metrics, log, adapters, checkpoints and status.
        resume: go on from the run's checkpoint instead of from step 0.
        accelerator: the process's accelerate.Accelerator, if one has been made already (several GPUs).

    Returns:
        The final status: "finished" or "stopped".

    Raises:
        Sam3LoraError: a mistake the user can mend; it is the run's "failed" message too.
    """
    main = accelerator is None or accelerator.is_main_process
    with run.writing() if main else nullcontext(_Silent()) as report:
        config = run.config
        accelerator = accelerator or make_accelerator(config.training)
        with device_lock(accelerator.device):
            setup = prepare(config, accelerator, log=report.log)
            progress = load_checkpoint(run.checkpoint, setup) if resume else Progress()
            if resume:
                report.row(kind="resume", step=progress.step)
                report.log(f"Resumed after step {progress.step}.")
            report.update(
                force=True,
                state="running",
                step=progress.step,
                epoch=progress.epoch + 1,
                epochs=setup.length.epochs,
                total_steps=setup.length.total_steps,
                best_validation_loss=progress.best_loss,
                device=str(accelerator.device),
            )
            return _train(run, setup, progress, report)


def _train(run: Run, setup: Setup, progress: Progress, report: RunWriter) -> Status:
    clock = _Clock(setup, progress.step)
    every = setup.config.training.checkpoint_every
    stopping = False

    while progress.step < setup.length.total_steps and not stopping:
        setup.detector.train()
        setup.loss.train()
        for group in batches(setup, progress.epoch, skip=progress.steps_in_epoch):
            outcome = _step(setup, group)
            progress.step += 1
            progress.steps_in_epoch += 1
            _report_step(report, progress, outcome, clock.tick(progress.step, outcome.images), setup)
            if every and progress.step % every == 0:
                save_checkpoint(run, setup, progress)
            stopping = _any_process(setup, run.stop_requested())
            if stopping or progress.step >= setup.length.total_steps:
                break

        # Beyond, not only at, the epoch's end: a dataset that has shrunk since has shorter epochs.
        if progress.steps_in_epoch >= setup.length.steps_per_epoch or progress.step >= setup.length.total_steps:
            _end_epoch(run, setup, progress, report)
        save_checkpoint(run, setup, progress)
        clock.forget()

    state = "finished" if progress.step >= setup.length.total_steps else "stopped"
    report.log(f"{state.capitalize()} after {progress.step} steps.")
    report.update(force=True, state=state, message="", eta_seconds=None)
    return report.status


@dataclass(frozen=True)
class _Outcome:
    """What one optimizer step did, averaged over its forward passes and over the processes."""

    loss: MeanLoss
    grad_norm: float
    lr: float
    images: int


def _step(setup: Setup, group: list[Any]) -> _Outcome:
    """One optimizer step over the group's batches (accumulation)."""
    accelerator = setup.accelerator
    lr = setup.scheduler.get_last_lr()[0]
    reports = []
    for position, batch in enumerate(group):
        last = position == len(group) - 1
        with _sync_gradients(setup, last):
            loss = _forward(setup, setup.model, batch)
            _require_finite(loss, batch)
            accelerator.backward(loss.total / len(group))
        reports.append(as_vector(loss))

    grad_norm = accelerator.clip_grad_norm_(setup.parameters, setup.config.training.max_grad_norm)
    if accelerator.scaler is None and not math.isfinite(grad_norm):  # with fp16 the scaler skips such a step
        raise TrainingError(
            f"Expected finite gradients, but they are not, on the images {_files(group)}",
            "Lower training.learning_rate and look at these images on the dataset page",
        )
    setup.optimizer.step()
    setup.scheduler.step()
    setup.optimizer.zero_grad()

    mean = accelerator.reduce(torch.stack(reports).mean(0), reduction="mean")
    return _Outcome(
        loss=from_vector(list(loss.terms), mean),
        grad_norm=float(grad_norm),
        lr=lr,
        images=sum(len(batch.images) for batch in group) * accelerator.num_processes,
    )


def _forward(setup: Setup, model: torch.nn.Module, batch: Any) -> LossReport:
    batch = batch.to(setup.accelerator.device)
    with setup.accelerator.autocast():
        detections = model(batch.pixel_values, batch.input_ids, batch.attention_mask, batch.image_index)
    return setup.loss(detections, batch.targets)


def _require_finite(loss: LossReport, batch: Any) -> None:
    if torch.isfinite(loss.total):
        return
    sick = [name for name, term in loss.terms.items() if not torch.isfinite(term.raw)]
    raise TrainingError(
        f"Expected a finite loss, but {', '.join(sick) or 'the total'} is not, on the images {_files([batch])}",
        "Lower training.learning_rate, use bf16 or fp32 instead of fp16, and look at these images on the dataset page",
    )


def _files(group: list[Any]) -> str:
    return ", ".join(image.file_name for batch in group for image in batch.images)


def _sync_gradients(setup: Setup, last: bool) -> AbstractContextManager:
    """Processes exchange gradients only with the last batch of a group."""
    return nullcontext() if last else setup.accelerator.no_sync(setup.model)


def _any_process(setup: Setup, flag: bool) -> bool:
    """Whether the flag is up in any process, so that all of them stop after the same step."""
    accelerator = setup.accelerator
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device)).item())


def _end_epoch(run: Run, setup: Setup, progress: Progress, report: RunWriter) -> None:
    """Validates, keeps the best adapter, and moves on to the next epoch."""
    loss = _validate(setup, progress, report)
    if loss is not None and (progress.best_loss is None or loss < progress.best_loss):
        progress.best_loss = loss
        setup.save_adapter(run.folder / "adapters" / "best")
        report.update(best_validation_loss=loss)
    if progress.steps_in_epoch >= setup.length.steps_per_epoch:
        progress.epoch += 1
        progress.steps_in_epoch = 0


def _validate(setup: Setup, progress: Progress, report: RunWriter) -> float | None:
    """Mean loss over the validation split, computed in the main process; None without one."""
    if setup.valid_loader is None or not setup.accelerator.is_main_process:
        return None
    setup.detector.eval()
    setup.loss.eval()
    loss = mean_loss(setup.valid_loader, lambda batch: _forward(setup, setup.detector, batch))
    if not math.isfinite(loss.total):
        report.log("The validation loss is not finite; no adapter counts as best at this epoch.")
        return None
    epoch = progress.epoch + 1
    report.row(kind="validation", step=progress.step, epoch=epoch, total=loss.total, terms=loss.weighted, raw=loss.raw)
    report.log(f"Epoch {epoch}: validation loss {loss.total:.3f}.")
    return loss.total


class _Clock:
    """Speed and remaining time from the recent steps; validation and checkpoints do not count as speed."""

    def __init__(self, setup: Setup, step: int) -> None:
        self._setup = setup
        self._last = time.perf_counter()
        self._seconds_per_step: float | None = None

    def forget(self) -> None:
        self._last = time.perf_counter()

    def tick(self, step: int, images: int) -> dict[str, float]:
        now = time.perf_counter()
        seconds = now - self._last
        self._last = now
        previous = self._seconds_per_step
        self._seconds_per_step = seconds if previous is None else 0.9 * previous + 0.1 * seconds
        return {
            "images_per_second": images / self._seconds_per_step,
            "eta_seconds": (self._setup.length.total_steps - step) * self._seconds_per_step,
        }


def _report_step(
    report: RunWriter, progress: Progress, outcome: _Outcome, speed: dict[str, float], setup: Setup
) -> None:
    memory = memory_bytes(setup.accelerator.device)
    report.row(
        kind="step",
        step=progress.step,
        epoch=progress.epoch + 1,
        total=outcome.loss.total,
        terms=outcome.loss.weighted,
        raw=outcome.loss.raw,
        lr=outcome.lr,
        grad_norm=outcome.grad_norm,
        images_per_second=speed["images_per_second"],
        memory_bytes=memory,
    )
    report.update(step=progress.step, epoch=progress.epoch + 1, memory_bytes=memory, **speed)


def memory_bytes(device: torch.device) -> int:
    """Peak memory on the GPU, or the resident memory of this process where there is none."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return psutil.Process().memory_info().rss


class _Silent:
    """Stands in for the writer in processes other than the main one."""

    def __init__(self) -> None:
        self.status = Status()

    def log(self, line: str) -> None: ...

    def row(self, **values: Any) -> None: ...

    def update(self, *, force: bool = False, **changes: Any) -> None:
        self.status = replace(self.status, **changes)
