"""Every field of every page takes hostile text: nothing in it acts, no page breaks, and the app answers afterwards."""

from __future__ import annotations

from itertools import cycle

import pytest
from playwright.sync_api import Error, Page

from tests.e2e.browser import App, open_page, wait_until_idle
from tests.e2e.test_hostile_names import check, watched
from tests.hostile import CONTROLS, FORMATTED, LONG, MARKUP

PATHS = (
    "../../../../etc/passwd",
    "~root",
    "/dev/zero",
    "\\\\host\\share",
    "//evil.invalid/x",
    "a" * 300,
    "/proc/self/mem",
)
TEXTS = (" ".join((*MARKUP, *FORMATTED)), *PATHS, *(text.replace("\0", "\ufffd") for text in CONTROLS), LONG[:20_000])
NUMBERS = ("-1", "1e308", "99999999999999999999", "0.1e-320", "NaN")
FILES = ("<img src=x onerror=window.__pwned=1>.zip", "../../x.yaml", "**b** :smile:.png", "a" * 200 + ".zip")
PAGES = {"dataset": "", "configure": "configure", "train": "train", "inference": "inference", "evaluate": "evaluate"}
PARAMETERS = {
    "": ("path", "view", "split", "image", "see"),
    "train": ("run", "details", "compare-with", "run-curves", "run-scale", "run-along", "run-smoothing"),
    "inference": ("adapter", "on_image", "phrases", "dataset", "ask", "image_source", "image_folder"),
    "evaluate": ("evaluation", "evaluation-view", "measured_split", "adapter"),
}
_FIELDS = '[data-testid="stMain"] :is(input, textarea):visible'
MAX_FIELDS = 12  # of a page; of more, every so manieth


@pytest.mark.parametrize("name", PAGES)
def test_every_field_takes_hostile_text(browser, app: App, name: str) -> None:
    texts, numbers = cycle(TEXTS), cycle(NUMBERS)
    with watched(browser, app) as page:
        open_page(page, app, PAGES[name], **({"path": "demo"} if name == "dataset" else {}))
        count = page.locator(_FIELDS).count()
        step = max(1, count // MAX_FIELDS)
        for number in range(0, count, step):
            fill(page, number, next(texts), next(numbers))
            check(page)
        upload(page)
        open_page(page, app, PAGES[name])
        check(page)
        assert page.get_by_test_id("stHeading").count(), "the app answers"
        assert "Traceback" not in app.log.read_text()


def fill(page: Page, number: int, text: str, digits: str) -> None:
    """Puts a text into one of the fields of the page, as far as it takes text, and sends it."""
    field = page.locator(_FIELDS).nth(number)
    kind = field.get_attribute("type", timeout=2000) if field.count() else "gone"
    if kind in ("checkbox", "radio", "file", "range", "gone"):
        return
    try:
        field.fill(digits if kind == "number" else text, timeout=2000)
        field.press("Enter", timeout=2000)
    except Error:
        return  # it is disabled, covered, or takes no such text: a person cannot type it either
    wait_until_idle(page)
    page.keyboard.press("Escape")


def upload(page: Page) -> None:
    """Gives each upload of the page files with hostile names and contents."""
    for number in range(page.locator('input[type="file"]').count()):
        for name in FILES:
            field = page.locator('input[type="file"]').nth(number)
            content = {"name": name.replace("/", "-"), "mimeType": "text/plain", "buffer": MARKUP[0].encode()}
            if field.count():
                field.set_input_files([content])
                wait_until_idle(page)
                check(page)


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_of_an_address_takes_hostile_text(browser, app: App, name: str) -> None:
    with watched(browser, app) as page:
        for text in (MARKUP[0] + FORMATTED[1] + "\u202e/../..", LONG[:4000]):
            open_page(page, app, name, **dict.fromkeys(PARAMETERS[name], text))
            check(page)
        assert "Traceback" not in app.log.read_text()
