"""One browser for all browser tests; an app of its own for each file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.browser import App, chromium, running_app


@pytest.fixture(scope="session")
def browser() -> Iterator:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def app(browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with running_app(tmp_path_factory.mktemp("app")) as started:
        yield started
