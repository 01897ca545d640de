"""The app is closed, or killed, while it trains: what is saved, what goes on, and what the next start shows."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from sam3_lora.runs.run import Run, list_runs
from sam3_lora.train.loop import fit
from tests.e2e.browser import App, failures, open_page, running_app, tab
from tests.e2e.helpers import CHART, quick_run, wait_for_more
from tests.train.helpers import totals

STEPS = 24
PATIENCE_S = 240
pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals"),
    pytest.mark.timeout(900),
]


@pytest.mark.slow
def test_ctrl_c_saves_the_run_and_after_the_next_start_it_goes_on(browser, tiny_base: Path, tmp_path: Path) -> None:
    unbroken = quick_run(tmp_path / "runs", tiny_base, tmp_path, STEPS)
    with running_app(tmp_path) as app, tab(browser) as (page, _):
        open_page(page, app, "train")
        _button(page, "Start training").click()
        run = _newest(app)
        _wait(lambda: run.status().step > 2)
        assert _closed_by(app, signal.SIGINT) == 0
        status, log = run.status(), app.log.read_text()
        assert (status.state, status.interrupted) == ("stopped", True) and 2 < status.step < STEPS
        assert int(run.checkpoints()[0].stem.removeprefix("step-")) == status.step
        assert "Waiting for the end of the training" in log and "Traceback" not in log + run.log_tail()

    with running_app(tmp_path) as app, tab(browser) as (page, errors):
        open_page(page, app, "train")
        errors.clear()
        expect(page.get_by_text(f"A run was interrupted at step {status.step} of {STEPS}")).to_be_visible()
        page.locator(".st-key-resume-interrupted button").click()
        _state(page, "Finished")
        expect(page.get_by_text("A run was interrupted")).to_have_count(0)
        assert failures(page) == [] and errors == []
    fit(unbroken)
    assert totals(run) == totals(unbroken)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "times", "code"), [("SIGTERM", 1, 0), ("SIGINT", 2, 130)])
def test_a_check_in_progress_is_waited_for_unless_told_twice(
    browser, tiny_base: Path, tmp_path: Path, number: str, times: int, code: int
) -> None:
    quick_run(tmp_path / "runs", tiny_base, tmp_path, STEPS)
    with running_app(tmp_path) as app, tab(browser) as (page, _):
        open_page(page, app, "train")
        _button(page, "Check").click()
        expect(_button(page, "Cancel")).to_be_visible(timeout=PATIENCE_S * 1000)
        assert _closed_by(app, getattr(signal, number), times) == code
        log = app.log.read_text()
        assert "Waiting for the end of the check" in log and "Traceback" not in log


@pytest.mark.slow
def test_a_run_of_its_own_process_outlives_a_killed_app_and_is_found_again(
    browser, tiny_base: Path, tmp_path: Path
) -> None:
    quick_run(tmp_path / "runs", tiny_base, tmp_path, 100_000)
    with running_app(tmp_path, SAM3_LORA_CONFIG=str(tmp_path / "config")) as app, tab(browser) as (page, errors):
        open_page(page, app, "train")
        errors.clear()
        page.get_by_text("Keep training if the app closes").click()
        _button(page, "Start training").click()
        _state(page, "Training")
        run = _newest(app)
        assert run.status().launched and run.status().pid != app.server.pid
        page.wait_for_selector(f"{CHART} .main-svg", timeout=PATIENCE_S * 1000)
        wait_for_more(page, 4)
        _button(page, "Pause").click()
        _state(page, "Paused")
        _button(page, "Resume").first.click()
        _state(page, "Training")
        assert failures(page) == [] and errors == []
        process = run.status().pid
        app.server.kill()
        app.server.wait()

    with running_app(tmp_path, SAM3_LORA_CONFIG=str(tmp_path / "config")) as app, tab(browser) as (page, errors):
        step = run.status().step
        open_page(page, app, "train")
        errors.clear()
        _state(page, "Training")
        assert run.status().pid == process
        expect(page.get_by_text("trained by a process of its own")).to_be_visible()
        expect(page.get_by_text("A run was interrupted")).to_have_count(0)
        expect(_button(page, "Start training")).to_be_disabled()
        expect(page.get_by_role("switch", name="Keep training")).to_be_checked()
        _wait(lambda: run.status().step > step)
        _button(page, "Stop").click()
        _state(page, "Stopped")
        assert run.status().reload_proof == "ok" and run.resume_obstacle() is None
        assert failures(page) == [] and errors == []


def _button(page, name: str):
    return page.get_by_role("button", name=name, exact=True)


def _state(page, words: str) -> None:
    expect(page.get_by_text(re.compile(rf"{words}\s*Step \d"))).to_be_visible(timeout=PATIENCE_S * 1000)


def _newest(app: App) -> Run:
    _wait(lambda: len(list_runs(app.runs)) > 1)
    return list_runs(app.runs)[0]


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.05)


def _closed_by(app: App, number: int, times: int = 1) -> int:
    """The exit code of the app after so many signals; a further one comes once it says what it waits for."""
    for _ in range(times - 1):
        app.server.send_signal(number)
        _wait(lambda: "Waiting for" in app.log.read_text())
    app.server.send_signal(number)
    return app.server.wait(PATIENCE_S)
