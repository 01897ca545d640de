"""The live chart in a real browser: it grows in place, and what the user did to it survives every update."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sam3_lora.runs.run import Run
from tests.e2e.browser import App, failures, open_page, tab, wait_until_idle
from tests.e2e.helpers import CHART, chart_state, same_view, wait_for_more, zoom
from tests.ui.run_folders import create_run, write_steps

STEPS = 100_000
DRAWN = f"{CHART} .main-svg"

ALL_TERMS = {"chart-curves": "Weighted terms"}


@contextmanager
def growing_run(runs: Path) -> Iterator[Run]:
    """A run whose folder gets a few more steps every half second, as from training in another process."""
    run = create_run(runs, "growing")
    ended = threading.Event()

    def grow() -> None:
        with run.writing() as writer:
            write_steps(writer, 1, 30, STEPS)
            step = 30
            while not ended.wait(0.5):
                write_steps(writer, step + 1, step + 5, STEPS)
                step += 5
            writer.update(force=True, state="stopped")

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        yield run
    finally:
        ended.set()
        thread.join()


@pytest.mark.slow
def test_zoom_and_hidden_curves_survive_updates_page_changes_and_a_reload(browser, app: App) -> None:
    with growing_run(app.runs) as run, tab(browser) as (page, errors):
        open_page(page, app, "train", run=run.name, **ALL_TERMS)
        page.wait_for_selector(DRAWN, timeout=30_000)
        errors.clear()
        page.evaluate(f"document.querySelector('{CHART}').dataset.mark = 'the same node'")
        first = chart_state(page)
        wait_for_more(page, first["points"])
        assert chart_state(page)["x"][1] > first["x"][1], "the axis grows with the curve while nobody has zoomed"

        zoom(page, hold_ms=2_500)  # updates come every two seconds: one of them in the middle of the drag
        page.locator(f"{CHART} .legendtoggle").nth(1).click()
        page.wait_for_timeout(300)
        zoomed = chart_state(page)
        assert zoomed["x"][1] < first["x"][1] and zoomed["hidden"] == ["loss_mask"]

        wait_for_more(page, zoomed["points"])
        updated = chart_state(page)
        assert same_view(zoomed, updated)
        assert updated["mark"] == "the same node", "an update must not build the chart anew"

        page.get_by_role("link", name="Dataset", exact=True).click()
        page.wait_for_selector(DRAWN, state="detached")
        wait_until_idle(page)  # left at once, its pictures would be gone before the browser has asked for them
        page.get_by_role("link", name="Train", exact=True).click()
        page.wait_for_selector(DRAWN)
        wait_for_more(page, updated["points"])
        assert same_view(zoomed, chart_state(page))
        assert failures(page) == [] and errors == []

        page.reload()
        page.wait_for_selector(DRAWN, timeout=30_000)
        assert f"run={run.name}" in page.url
        wait_for_more(page, updated["points"])
        assert same_view(zoomed, chart_state(page))

        page.locator(f"{CHART} .nsewdrag").dblclick()
        page.wait_for_timeout(500)
        whole = chart_state(page)
        assert whole["x"][0] <= 1 and whole["x"][1] > zoomed["x"][1], "a double click shows everything again"


@pytest.mark.slow
def test_each_click_on_the_legend_counts_however_quick_and_a_double_one_shows_a_curve_alone(browser, app: App) -> None:
    with growing_run(app.runs) as run, tab(browser) as (page, errors):
        open_page(page, app, "train", run=run.name, **ALL_TERMS)
        page.wait_for_selector(DRAWN, timeout=30_000)
        wait_for_more(page, 1)
        entries = page.locator(f"{CHART} .legendtoggle")
        names = page.locator(f"{CHART} .legendtext").all_text_contents()
        assert len(names) > 3

        def await_hidden(expected: list[str]) -> None:
            page.wait_for_function(
                f"""expected => document.querySelector('{CHART}').data
                    .filter(trace => trace.showlegend && trace.visible === "legendonly")
                    .map(trace => trace.name).sort().join() === expected.sort().join()""",
                arg=expected,
                timeout=10_000,
            )

        for place in (0, 1, 2):
            entries.nth(place).click()
        await_hidden(names[:3])
        entries.nth(1).dblclick()
        await_hidden(names[:1] + names[2:])
        entries.nth(1).dblclick()
        await_hidden([])
        assert failures(page) == [] and errors == []


@pytest.mark.slow
def test_the_library_is_sent_once_and_updates_are_small(browser, app: App) -> None:
    with growing_run(app.runs), tab(browser) as (page, _):
        frames: list[int] = []
        page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: frames.append(len(frame))))
        open_page(page, app, "dataset")
        page.get_by_role("link", name="Train", exact=True).click()
        page.wait_for_selector(DRAWN, timeout=30_000)
        assert sum(size > 1_000_000 for size in frames) == 1
        frames.clear()
        wait_for_more(page, chart_state(page)["points"] + 20)
        page.get_by_role("button", name="Axes", exact=True).click()
        page.get_by_test_id("stPopoverBody").get_by_text("Log", exact=True).click()  # an update that a person asks for
        page.wait_for_function(f"document.querySelector('{CHART}').layout.yaxis.type === 'log'")
        page.get_by_role("button", name="Stop", exact=True).click()  # a full run of the page
        page.get_by_text("Stopping").first.wait_for()
        assert max(frames) < 200_000


@pytest.mark.slow
def test_the_chart_follows_the_theme(browser, app: App) -> None:
    color = f"document.querySelector('{CHART}')?.data?.[0].line.color"  # a new theme builds the chart anew
    with growing_run(app.runs), tab(browser, "light") as (page, _):
        open_page(page, app, "dataset")
        page.get_by_role("link", name="Train", exact=True).click()
        page.wait_for_selector(DRAWN, timeout=30_000)
        light = page.evaluate(color)
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(f"light => {color} && {color} !== light", arg=light, timeout=10_000)
