"""A run in a real browser from start to end: check, start, pause, stop, resume, finish, compare, download."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from playwright.sync_api import expect

from tests.e2e.browser import App, failures, open_page, tab, violations, wait_until_idle
from tests.e2e.helpers import CHART, chart_state, quick_run, same_view, wait_for_more, zoom
from tests.ui.run_folders import write_adapter, write_steps

STEPS = 30
PATIENCE_MS = 240_000
# Whether a chart shows curves of two runs.
TWO_RUNS = """selector => [...document.querySelectorAll(selector)].some(({ data }) => {
    const lines = (data ?? []).filter((trace) => trace.x.length > 1);
    return new Set(lines.map((trace) => trace.legendgroup)).size === 2
        && lines.every((trace) => trace.legendgroup.startsWith("run-"));
})"""


def test_from_the_check_to_the_archive(browser, app: App, tiny_base: Path, tmp_path: Path) -> None:
    _earlier_run(app, tiny_base, tmp_path)
    with tab(browser) as (page, errors), tab(browser, "dark") as (second, second_errors):
        open_page(page, app, "train")
        errors.clear()  # the browser's own, of opening an inner page first
        _check(page)
        view = _start_pause_and_look_closer(page)

        page.reload()
        _state(page, "Paused")
        wait_for_more(page, 0)
        assert same_view(view, chart_state(page)), "zoom and hidden curves survive a reload"
        _button(page, "Axes").click()
        expect(_smoothing(page)).to_have_value("0.8")
        page.keyboard.press("Escape")

        open_page(second, app, "train")
        _state(second, "Paused")
        _button(second, "Resume").click()
        _state(page, "Training")  # in the first tab, by itself
        _button(page, "Stop").click()
        _state(page, "Stopped")
        _state(second, "Stopped")
        _button(page, "Resume").click()
        _state(second, "Finished")
        _state(page, "Finished")
        expect(page.get_by_text(f"Step {STEPS} of {STEPS}")).to_be_visible()

        _compare(page)
        _download(page, tmp_path)
        assert failures(page) == failures(second) == []
        assert violations(page) == violations(second) == []
        assert errors == [] and second_errors == []


def _earlier_run(app: App, tiny_base: Path, folder: Path) -> None:
    """One to compare with, whose settings the next run takes over."""
    run = quick_run(app.runs, tiny_base, folder, STEPS)
    with run.writing() as writer:
        write_steps(writer, 1, 30, 30)
        write_adapter(run, "last")
        writer.update(force=True, state="finished", eta_seconds=None)


def _button(page, name: str):
    return page.get_by_role("button", name=name, exact=True)


def _state(page, words: str) -> None:
    expect(page.get_by_text(re.compile(rf"{words}\s*Step \d"))).to_be_visible(timeout=PATIENCE_MS)


def _smoothing(page):
    return page.get_by_role("slider", name=re.compile("Smoothing"))


def _check(page) -> None:
    _button(page, "Check").click()
    expect(page.get_by_text("Ready to start")).to_be_visible(timeout=PATIENCE_MS)
    for words in ("Estimated time", "Largest batch", "Trained components", "Learning rate"):
        expect(page.get_by_text(words, exact=True).first).to_be_visible()
    expect(page.locator(f".st-key-check-result {CHART} .main-svg").first).to_be_visible()


def _start_pause_and_look_closer(page) -> dict:
    """Starts a run and pauses it; smooths, hides a curve and zooms. Returns how the chart looks then."""
    _button(page, "Start training").click()
    expect(page.locator(".st-key-check-result")).to_have_count(0, timeout=30_000)
    _state(page, "Training")
    page.wait_for_selector(f"{CHART} .main-svg", timeout=PATIENCE_MS)
    wait_for_more(page, 4)
    _button(page, "Pause").click()
    _state(page, "Paused")
    _choose(page, "Curves", "Weighted terms")
    expect(page.locator(f"{CHART} .legendtext", has_text="loss_mask").first).to_be_visible(timeout=30_000)
    _button(page, "Axes").click()
    _smoothing(page).focus()
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    page.wait_for_function("location.search.includes('chart-smoothing=0.8')", timeout=30_000)
    page.keyboard.press("Escape")
    zoom(page, hold_ms=100)
    page.locator(f"{CHART} .legendtoggle").nth(1).click()
    page.wait_for_timeout(800)  # Plotly waits whether it was a double click
    view = chart_state(page)
    assert "loss_mask" in view["hidden"]
    return view


def _compare(page) -> None:
    page.get_by_role("tab", name="Compare").click()
    wait_until_idle(page)
    _choose(page, "Compare with", "earlier")
    page.keyboard.press("Escape")
    expect(page.get_by_role("combobox", name="Curves")).to_have_count(2, timeout=30_000)
    _choose(page, "Curves", "Total loss")
    page.wait_for_function(f"({TWO_RUNS})('{CHART}')", timeout=30_000)
    expect(page.get_by_text("These runs have the same settings.")).to_be_visible()


def _choose(page, label: str, option: str) -> None:
    """Opens the last list of that label and takes an option."""
    box = page.get_by_role("combobox", name=label).last
    box.scroll_into_view_if_needed()
    page.wait_for_timeout(500)  # scrolling closes a list that was just opened
    box.click()
    page.get_by_role("option", name=re.compile(option)).first.click()


def _download(page, folder: Path) -> None:
    _button(page, "More").click()
    with page.expect_download(timeout=60_000) as download:
        _button(page, "Download").click()
    archive = folder / "run.zip"
    download.value.save_as(archive)
    names = {Path(name).name for name in zipfile.ZipFile(archive).namelist()}
    assert {"adapter_model.safetensors", "config.yaml", "metrics.jsonl"} <= names
