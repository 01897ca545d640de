"""A browser tab that must stay harmless: what is watched in it, all its fields, and what it downloads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, cycle

from playwright.sync_api import Download, Page

from tests.e2e.browser import App, tab, wait_until_idle

_ACTING = """() => [...document.body.querySelectorAll('*')].filter((node) =>
    ["SCRIPT", "IFRAME", "OBJECT"].includes(node.tagName) && !node.src?.startsWith(location.origin)
    || [...node.attributes].some((one) => one.name.startsWith("on")
        || ["src", "srcset", "style"].includes(one.name) && one.value.includes("evil")
        || one.name === "href" && /javascript:/i.test(one.value)
        // Streamlit links a bare address, which is what it says.
        || one.name === "href" && one.value.includes("evil") && !decodeURI(one.value).includes(node.textContent))
).map((node) => node.outerHTML.slice(0, 300))"""


@contextmanager
def watched(browser, app: App) -> Iterator[Page]:
    """A tab; nothing that it shows may run a script, open a dialog or ask another machine."""
    dialogs: list[str] = []
    foreign: list[str] = []
    own = (app.url, app.url.replace("http", "ws", 1), "data:", "blob:")
    with tab(browser) as (page, errors):
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: None if request.url.startswith(own) else foreign.append(request.url))
        yield page
        assert dialogs == [] and foreign == []
        assert [error for error in errors if "evil" in error or "pwned" in error] == []


def check(page: Page, app: App) -> None:
    """Nothing acts, no page has failed, and the server has seen no error that it did not expect."""
    assert page.evaluate("() => window.__pwned") is None
    assert page.evaluate(_ACTING) == []
    assert page.get_by_test_id("stException").all_inner_texts() == []
    log = app.runs / "app.log"
    assert not log.exists(), log.read_text()[-3000:]
    assert "Traceback" not in app.log.read_text(), app.log.read_text()[-3000:]


def go_to(page: Page, name: str) -> None:
    """Opens another page of the app in the same session, by its link in the sidebar."""
    page.get_by_test_id("stSidebarNavItems").get_by_role("link", name=name).click()
    page.get_by_role("heading", name=name, exact=True).first.wait_for(timeout=60_000)
    wait_until_idle(page)


def download(page: Page, label: str) -> tuple[Download, bytes]:
    """Presses a download button; its file has a name that is harmless on every system."""
    with page.expect_download(timeout=60_000) as started:
        page.get_by_role("button", name=label, exact=True).first.click()
    file = started.value
    assert re.fullmatch(r"\w[\w. -]{0,130}\.(csv|json|md|png|yaml|zip)", file.suggested_filename), (
        file.suggested_filename
    )
    return file, file.path().read_bytes()


# A field is known by the nearest key of a widget above it, its label and its kind.
_FIELDS = """() => [...document.querySelectorAll('input, textarea')].filter((node) =>
    !["checkbox", "radio", "range", "file"].includes(node.type) && !node.disabled && !node.readOnly
    && node.getClientRects().length && !node.closest('[data-testid="stSidebar"]')
).map((node) => {
    const keyed = node.closest('[class*="st-key-"]');
    const key = keyed ? [...keyed.classList].find((name) => name.startsWith("st-key-")) : "";
    const number = node.type === "number" || node.inputMode === "numeric" || node.inputMode === "decimal";
    const kind = number ? "number" : node.getAttribute("role") ?? "text";
    node.dataset.field = [key, node.getAttribute("aria-label") ?? "", kind].join("|");
    return node.dataset.field;
})"""
# As typing does: the value, Enter, and leaving the field.
_TYPE = """(texts) => {
    for (const [name, text] of texts) {
        const node = [...document.querySelectorAll("[data-field]")].find((one) => one.dataset.field === name);
        if (!node || node.disabled) continue;
        const kind = node.tagName === "TEXTAREA" ? HTMLTextAreaElement : HTMLInputElement;
        node.focus();
        Object.getOwnPropertyDescriptor(kind.prototype, "value").set.call(node, text);
        node.dispatchEvent(new Event("input", { bubbles: true }));
        for (const type of ["keydown", "keypress", "keyup"])
            node.dispatchEvent(new KeyboardEvent(type, { key: "Enter", code: "Enter", keyCode: 13, bubbles: true }));
        node.blur();
    }
}"""
_PLACES = """() => [...document.querySelectorAll('[data-testid="stFileUploaderDropzone"]')].map((node) =>
    "." + [...node.closest('[class*="st-key-"]').classList].find((name) => name.startsWith("st-key-")))"""
_OPEN_EXPANDERS = """() => document.querySelectorAll('[data-testid="stExpander"] details:not([open]) > summary')
    .forEach((summary) => summary.click())"""
_CHOICES = """() => [...document.querySelectorAll(
    '[data-testid="stMain"] :is([role="tab"], [data-testid="stButtonGroup"] button)'
)].map((node) => node.textContent)"""
_CHOOSE = """(text) => [...document.querySelectorAll(
    '[data-testid="stMain"] :is([role="tab"], [data-testid="stButtonGroup"] button)'
)].find((node) => node.textContent === text)?.click()"""


@dataclass
class FieldWalk:
    """Fills every field that a page shows in any of its tabs, views, expanders and popovers.

    texts, numbers: what is typed, in turn, but the first text only once. last: labels of fields on which depends what
    else is there; they are left to :meth:`fill`.
    """

    page: Page
    app: App
    texts: tuple[str, ...]
    numbers: tuple[str, ...]
    last: tuple[str, ...] = ()
    uploads: tuple[dict, ...] = ()
    filled: dict[str, str] = field(default_factory=dict)  # field -> what was typed
    uploaded: set[str] = field(default_factory=set)  # selectors of places where files were uploaded

    def __post_init__(self) -> None:
        first, *others = self.texts
        self._texts, self._numbers = chain([first], cycle(others)), cycle(self.numbers)

    def everything(self) -> None:
        """Fills all of them, and uploads files where files can be uploaded."""
        chosen: set[str] = set()
        self._view()
        while fresh := [text for text in self.page.evaluate(_CHOICES) if text not in chosen]:
            chosen.add(fresh[0])
            self.page.evaluate(_CHOOSE, fresh[0])
            wait_until_idle(self.page)
            self._view()

    def _view(self) -> None:
        """Fills what the page shows now."""
        self.page.evaluate(_OPEN_EXPANDERS)
        wait_until_idle(self.page)
        self._fresh()
        for _ in self._popovers():
            self._fresh()
            self.page.keyboard.press("Escape")
        check(self.page, self.app)

    def _fresh(self) -> None:
        while fresh := [name for name in self.page.evaluate(_FIELDS) if self._is_due(name)]:
            typed = {name: next(self._numbers if name.endswith("|number") else self._texts) for name in fresh}
            self._type(typed)
            wait_until_idle(self.page)
            check(self.page, self.app)
        self._upload()

    def _is_due(self, name: str) -> bool:
        return name not in self.filled and name.split("|")[1] not in self.last

    def _type(self, texts: dict[str, str]) -> None:
        self.filled |= texts
        self.page.evaluate(_TYPE, list(texts.items()))

    def fill(self, label: str, *texts: str) -> None:
        """Types one text after the other into one field, by its label, and waits for what the page says to it."""
        for text in texts:
            self._type({self._find(label): text})
            wait_until_idle(self.page)
            check(self.page, self.app)

    def _popovers(self) -> Iterator[None]:
        """Opens one popover after the other."""
        buttons = self.page.get_by_test_id("stPopoverButton").filter(visible=True)
        for number in range(buttons.count()):
            if number < buttons.count() and buttons.nth(number).is_enabled():
                buttons.nth(number).click()
                wait_until_idle(self.page)
                yield

    def _find(self, label: str) -> str:
        """The field with a label, which may be in a popover."""
        for _ in chain([None], self._popovers()):
            for name in self.page.evaluate(_FIELDS):
                if name.split("|")[1] == label:
                    return name
        raise AssertionError(f"no field {label}: {self.page.evaluate(_FIELDS)}")

    def _upload(self) -> None:
        """Uploads each file to each place for uploads, once."""
        for place in self.page.evaluate(_PLACES):
            for file in () if place in self.uploaded else self.uploads:
                upload = self.page.locator(f'{place} input[type="file"]')
                if upload.count():
                    upload.first.set_input_files([file])
                    wait_until_idle(self.page)
                    check(self.page, self.app)
            self.uploaded.add(place)


def each(page: Page, app: App, names: tuple[str, ...], look: Callable[[str], None]) -> None:
    """Chooses one view after the other, and looks at each."""
    for name in names:
        page.evaluate(_CHOOSE, name)
        wait_until_idle(page)
        check(page, app)
        look(name)
