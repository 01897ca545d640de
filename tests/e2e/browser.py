"""The app in a real browser: starts it on a free port with runs of its own, and drives Chromium."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize

ROOT = Path(__file__).resolve().parent.parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VIEWPORT: ViewportSize = {"width": 1440, "height": 900}
START_TIMEOUT_S = 60
# Chromium must neither need a display nor talk to anybody but the app.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@dataclass(frozen=True)
class App:
    """A running app. url ends without a slash; log is what the server has written."""

    url: str
    runs: Path
    log: Path
    server: subprocess.Popen[bytes]


@contextmanager
def running_app(folder: Path, *options: str, **environment: str) -> Iterator[App]:
    """Starts ``streamlit run app.py``; its runs and its log lie in the folder. Ends it afterwards.

    Args:
        folder: of runs and log.
        options: of Streamlit, on the command line.
        environment: further variables.
    """
    port = _free_port()
    runs, log = folder / "runs", folder / "server.log"
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "--server.headless", "true", *options],
            cwd=ROOT,
            env={**os.environ, "SAM3_LORA_RUNS": str(runs), **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        app = App(f"http://localhost:{port}", runs, log, server)
        _wait_until_healthy(app)
        yield app
    finally:
        server.terminate()
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def _wait_until_healthy(app: App) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert app.server.poll() is None, f"The app ended at once:\n{app.log.read_text()}"
        try:
            with urllib.request.urlopen(f"{app.url}/_stcore/health", timeout=1) as reply:
                if reply.status == 200:
                    return
        except urllib.error.HTTPError as refusal:
            if refusal.code == 403:  # it asks for a token
                return
            time.sleep(0.2)
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"The app did not start in {START_TIMEOUT_S} s:\n{app.log.read_text()}")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium from this machine. Skips the test, saying why, where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no browser on PATH (looked for {', '.join(BROWSERS)})")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, headless=True, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def tab(browser: Browser, theme: Literal["light", "dark"] = "light") -> Iterator[tuple[Page, list[str]]]:
    """A fresh tab of 1440 x 900 in a theme, and the list that its console's errors are added to."""
    # Without a GPU, drawing every frame of an animation takes as long as the pages themselves.
    context = browser.new_context(viewport=VIEWPORT, color_scheme=theme, reduced_motion="reduce")
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(_in_words(message)) if _is_error(message) else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        yield page, errors
    finally:
        context.close()


def _in_words(message: ConsoleMessage) -> str:
    return f"{message.text} ({message.location.get('url', '')})"


def _is_error(message: ConsoleMessage) -> bool:
    # Opened on an inner page, Streamlit first looks for its server below that page, and is told 404.
    return message.type == "error" and "/_stcore/" not in message.location.get("url", "")


def open_page(page: Page, app: App, name: str = "", **query: str) -> None:
    """Opens a page of the app by its name in the address ("" is the start page) and waits until it is drawn."""
    page.goto(f"{app.url}/{name}" + (f"?{urlencode(query)}" if query else ""))
    page.get_by_test_id("stHeading").first.wait_for(timeout=90_000)
    wait_until_idle(page)


def wait_until_idle(page: Page, timeout_s: float = 60) -> None:
    """Waits until the app's script has run to its end and nothing is being redrawn."""
    page.wait_for_function(_IDLE, timeout=timeout_s * 1000)
    page.wait_for_timeout(300)
    page.wait_for_function(_IDLE, timeout=timeout_s * 1000)


_IDLE = """() => {
    const app = document.querySelector('[data-testid="stApp"]');
    return app && app.getAttribute('data-test-script-state') === 'notRunning'
        && !document.querySelector('[data-testid="stSkeleton"], [data-testid="stSpinner"]');
}"""


def failures(page: Page) -> list[str]:
    """Texts of tracebacks and red boxes on the screen."""
    found: Any = page.locator('[data-testid="stException"], [data-testid="stAlertContentError"]')
    return found.all_inner_texts()


def violations(page: Page) -> list[str]:
    """What axe-core finds that keeps people from using the page as it is now: serious and critical violations."""
    from axe_playwright_python.sync_playwright import Axe

    # Inactive controls need no contrast (WCAG 1.4.3); Streamlit does not mark their labels as such.
    inactive = [
        [f'[data-testid="{control}"]:has({mark})']
        for control in ("stSlider", "stButtonGroup")
        for mark in ("[disabled]", '[aria-disabled="true"]')
    ]
    present = [selector for selector in inactive if page.locator(selector[0]).count()]
    context = {"exclude": present} if present else None
    results = Axe().run(page, context=context, options={"resultTypes": ["violations"]}).response
    return [
        f"{rule['id']}: {node['html'][:200]}"
        for rule in results["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def unmarked(page: Page) -> list[str]:
    """Controls that look the same whether the keyboard is on them or not."""
    page.keyboard.press("Tab")  # from here on the browser marks what has the focus
    return page.evaluate(_UNMARKED)


_UNMARKED = """() => {
    const controls = 'a[href], button, summary, input, textarea, select, [role=tab], [role=button]';
    const isMarked = (element, part) => {
        const style = getComputedStyle(element, part);
        return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1;
    };
    const missing = [];
    for (const control of document.querySelectorAll(controls)) {
        if (control.disabled || control.tabIndex < 0 || !control.getClientRects().length) continue;
        control.focus();
        if (document.activeElement !== control) continue;
        const around = [control, control.closest('label')?.querySelector('div')];
        for (let outer = control.parentElement, level = 0; outer && level < 3; outer = outer.parentElement, level++)
            around.push(outer);
        const hidden = control.matches('[data-testid=stCheckbox] input, [data-testid=stSlider] input');
        const seen = hidden ? around.slice(1) : around;
        if (!seen.some(element => element && isMarked(element)) && !isMarked(control, '::after'))
            missing.push(control.outerHTML.slice(0, 200));
    }
    document.activeElement.blur();
    return missing;
}"""
