"""The background job: one piece of work at a time, watched through snapshots; and what jobs and models leave behind."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from sam3_lora.errors import Cancelled, DataError
from sam3_lora.ui.background_job import BackgroundJob, active_jobs
from sam3_lora.ui.resources import get_predictor


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> BackgroundJob[str, int]:
    monkeypatch.setenv("SAM3_LORA_RUNS", str(tmp_path))  # for the app's log
    return BackgroundJob("counting")


def test_the_result_stays_until_it_is_forgotten(job: BackgroundJob[str, int]) -> None:
    assert job.snapshot().state == "idle"
    assert job.start("to three", lambda: 3) and job.wait(10)
    assert (job.snapshot().state, job.snapshot().request, job.snapshot().result) == ("done", "to three", 3)
    job.cancel()
    assert job.snapshot().state == "done", "there is nothing to cancel"
    job.forget()
    assert job.snapshot().result is None and job.snapshot().state == "idle"


def test_one_at_a_time_and_a_cancelled_job_keeps_its_partial_result(job: BackgroundJob[str, int]) -> None:
    reported, go_on = threading.Event(), threading.Event()

    def work() -> int:
        job.report(0.25, "Counting", 1)
        job.report(0.5, "Still counting")
        reported.set()
        assert go_on.wait(10)
        if job.is_cancelled():
            raise Cancelled
        return 2

    assert job.start("a", work) and reported.wait(10)
    now = job.snapshot()
    assert (now.state, now.share, now.text, now.result) == ("running", 0.5, "Still counting", 1)
    assert not job.start("b", lambda: 9)
    job.forget()
    job.cancel()
    assert job.snapshot().state == "stopping" and job.snapshot().active
    go_on.set()
    assert job.wait(10)
    assert (job.snapshot().state, job.snapshot().request, job.snapshot().result) == ("cancelled", "a", 1)
    assert now.state == "running", "a snapshot does not change"
    assert job.start("b", lambda: 9) and job.wait(10) and job.snapshot().result == 9


def test_errors_become_sentences(job: BackgroundJob[str, int], caplog: pytest.LogCaptureFixture) -> None:
    def wrong_data() -> int:
        raise DataError("Expected a number", "Give one")

    def broken() -> int:
        raise ZeroDivisionError("a secret detail")

    assert job.start("a", wrong_data) and job.wait(10)
    assert (job.snapshot().state, job.snapshot().error) == ("failed", "Expected a number. Give one.")
    with caplog.at_level(logging.ERROR):
        assert job.start("b", broken) and job.wait(10)
    assert job.snapshot().state == "failed" and "secret" not in job.snapshot().error
    assert "counting failed" in job.snapshot().error and "a secret detail" in caplog.text


class Model:
    """Stands for a model: held by a reference cycle, as the first one that a process loads is."""

    def __init__(self) -> None:
        self.itself = self


def test_a_job_leaves_no_model_behind(job: BackgroundJob[str, int], without_collections: None) -> None:
    made: list[weakref.ref[Model]] = []

    def train() -> int:
        made.append(weakref.ref(Model()))
        return 1

    def fail() -> int:
        train()
        raise DataError("Expected a number", "Give one")

    for work in (train, fail):
        assert job.start("train", work) and job.wait(10)
    assert len(made) == 2 and [model() for model in made] == [None, None]


def test_models_that_were_dropped_make_room_for_the_next(
    monkeypatch: pytest.MonkeyPatch, without_collections: None
) -> None:
    made: list[weakref.ref[Model]] = []

    def load(base: str, *_: object, **others: object) -> Model:
        model = Model()
        made.append(weakref.ref(model))
        return model

    monkeypatch.setattr("sam3_lora.predict.predictor.Predictor.load", load)
    for number in range(5):
        get_predictor(f"base {number}", None)
    assert len(made) == 5 and [model() is not None for model in made[:2]] == [False, False]


@pytest.fixture
def without_collections() -> Iterator[None]:
    """Python looks for cycles by the number of new objects: in a test at any time, or never."""
    gc.disable()
    yield
    gc.enable()


def test_work_that_looks_elsewhere_is_asked_there_each_time(job: BackgroundJob[str, bool]) -> None:
    asked, ended = threading.Event(), threading.Event()
    job.start("request", ended.wait, on_cancel=asked.set)
    assert job in active_jobs() and not asked.is_set()
    for _ in range(2):
        asked.clear()
        job.cancel()
        assert asked.is_set()
    ended.set()
    assert job.wait(10) and job not in active_jobs()
    asked.clear()
    job.cancel()
    assert not asked.is_set()
