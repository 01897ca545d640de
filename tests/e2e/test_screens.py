"""Every page in a real browser, light and dark: it draws, without an error on the screen or in the console.

Set SAM3_LORA_SCREENSHOTS=1 to have docs/screenshots/ written anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.browser import ROOT, App, chromium, failures, open_page, running_app, tab

SCREENSHOTS = ROOT / "docs" / "screenshots"
VIEWS = {
    "dataset": ("", {"path": "demo"}),
    "configure": ("configure", {}),
    "train": ("train", {}),
    "inference": ("inference", {}),
    "evaluate": ("evaluate", {}),
}


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def app(browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with running_app(tmp_path_factory.mktemp("app")) as started:
        yield started


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", VIEWS)
def test_page_draws_without_errors(browser, app: App, name: str, theme: str) -> None:
    path, query = VIEWS[name]
    with tab(browser, theme) as (page, errors):
        open_page(page, app, path, **query)
        assert failures(page) == []
        assert errors == []
        _keep_screenshot(page, f"{name}-{theme}")


def _keep_screenshot(page, name: str) -> None:
    if os.environ.get("SAM3_LORA_SCREENSHOTS") == "1":
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(SCREENSHOTS / f"{name}.png"))
