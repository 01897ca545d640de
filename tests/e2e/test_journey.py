"""From start to end in a real browser: dataset -> configure -> train, left and come back to -> stop -> two results."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.e2e.browser import App, failures, open_page, tab, wait_until_idle

POINTS = """() => Math.max(0, ...[...document.querySelectorAll('.sam3-live-chart')]
    .map((chart) => Math.max(0, ...(chart.data ?? []).map((trace) => trace.x.length))))"""


def test_from_a_dataset_to_two_results(browser, app: App) -> None:
    with tab(browser) as (page, errors):
        _look_at_the_dataset(page, app)
        _configure(page)
        _train_and_stop(page, app)
        _prompt(page)
        assert failures(page) == []
        assert errors == []


def _look_at_the_dataset(page, app: App) -> None:
    open_page(page, app)
    page.get_by_role("button", name=re.compile("demo", re.IGNORECASE)).first.click()
    wait_until_idle(page)
    thumbnails = page.locator('[class*="st-key-thumb-"] img')
    expect(thumbnails.first).to_be_visible(timeout=30_000)
    # The picture has arrived and is not blank.
    page.wait_for_function(
        "() => document.querySelector('[class*=\"st-key-thumb-\"] img').naturalWidth > 50", timeout=30_000
    )


def _go_to(page, name: str) -> None:
    # Who leaves before the pictures are there asks the server for what it has thrown away by then.
    page.wait_for_function("() => [...document.images].every((image) => image.complete)", timeout=30_000)
    page.get_by_test_id("stSidebarNavItems").get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible(timeout=60_000)
    wait_until_idle(page)


def _configure(page) -> None:
    _go_to(page, "Configure")
    page.get_by_role("textbox", name="Run name").fill("journey")
    page.keyboard.press("Enter")
    wait_until_idle(page)
    page.get_by_role("button", name="Go to training").click()
    expect(page.get_by_role("heading", name="Train", exact=True)).to_be_visible(timeout=30_000)
    wait_until_idle(page)


def _train_and_stop(page, app: App) -> None:
    expect(page.get_by_text("Next run: journey")).to_be_visible()
    page.get_by_role("button", name="Start training").click()
    first = _points_beyond(page, 0)

    _go_to(page, "Dataset")
    _go_to(page, "Train")
    second = _points_beyond(page, first)

    page.reload()
    _points_beyond(page, second)

    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_text("Stopped", exact=False).first).to_be_visible(timeout=60_000)
    (run,) = app.runs.iterdir()
    assert run.name.endswith("-journey")
    assert (run / "adapters" / "last" / "adapter_model.safetensors").is_file()


def _points_beyond(page, count: int) -> int:
    page.wait_for_function(f"() => ({POINTS})() > {count}", timeout=300_000)
    return page.evaluate(POINTS)


def _prompt(page) -> None:
    _go_to(page, "Inference")
    page.get_by_role("button", name="Prompt", exact=True).click()
    results = page.get_by_role("group", name=re.compile(r"(Base model|[Aa]dapter).*: \d+ objects?"))
    expect(results).to_have_count(2, timeout=60_000)
    wait_until_idle(page)
