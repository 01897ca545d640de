"""Takes the screenshots of README anew: every page, light and dark, with a default run on the demo.

Usage: python -m scripts.take_screenshots [FOLDER]    (default: docs/screenshots)
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.e2e.browser import ROOT, App, chromium, open_page, running_app, tab, wait_until_idle

_POINTS = """() => Math.max(0, ...[...document.querySelectorAll('.sam3-live-chart')]
    .map((chart) => Math.max(0, ...(chart.data ?? []).map((trace) => trace.x.length))))"""


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work, running_app(Path(work)) as app, chromium() as browser:
        for theme in ("light", "dark"):
            with tab(browser, theme) as (page, _):
                _take_data_pages(page, app, folder, theme)
        with tab(browser) as (page, _):
            _train(page, app)
        for theme in ("light", "dark"):
            with tab(browser, theme) as (page, _):
                _take_run_pages(page, app, folder, theme)


def _take_data_pages(page, app: App, folder: Path, theme: str) -> None:
    open_page(page, app)
    page.wait_for_timeout(1000)
    page.screenshot(path=folder / f"start-{theme}.png")
    open_page(page, app, "dataset", path="demo")
    page.wait_for_timeout(1000)
    page.screenshot(path=folder / f"dataset-{theme}.png")
    page.locator('[class*="st-key-thumb-1"] img').first.click(force=True)
    page.locator(".st-key-large-image img").wait_for()
    wait_until_idle(page)
    page.screenshot(path=folder / f"image-{theme}.png")
    open_page(page, app, "configure")
    page.screenshot(path=folder / f"configure-{theme}.png")


def _train(page, app: App) -> None:
    """Trains the default run to its end, minutes on two cores: README shows what it learns."""
    open_page(page, app, "train")
    page.get_by_role("button", name="Start training").click()
    page.get_by_text("Finished").first.wait_for(timeout=1_800_000)


def _take_run_pages(page, app: App, folder: Path, theme: str) -> None:
    (run,) = (path for path in app.runs.iterdir() if (path / "config.yaml").is_file())
    open_page(page, app, "train", run=run.name)
    page.wait_for_function(f"() => ({_POINTS})() > 0", timeout=60_000)
    page.wait_for_timeout(1000)
    page.screenshot(path=folder / f"train-{theme}.png")
    open_page(page, app, "inference")
    page.get_by_role("button", name="Example 3").click(force=True)
    page.locator('[class*="st-key-predictions-"]').nth(1).wait_for(timeout=120_000)
    wait_until_idle(page)
    page.screenshot(path=folder / f"inference-{theme}.png")
    open_page(page, app, "evaluate")
    if not page.get_by_test_id("stMetric").count():
        page.get_by_role("button", name="Evaluate", exact=True).click()
    page.get_by_test_id("stMetric").first.wait_for(timeout=300_000)
    wait_until_idle(page)
    page.screenshot(path=folder / f"evaluate-{theme}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "screenshots")
