"""In a real browser: run an evaluation, read the verdict, open the worst images, download the report."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.e2e.browser import App, failures, open_page, tab, violations, wait_until_idle
from tests.e2e.helpers import save_adapter
from tests.factories import write_dataset

_SIZES = """() => [...document.querySelectorAll('[class*="st-key-worst-panel-"] img')].map(
    (image) => image.naturalWidth
)"""


def test_from_a_button_to_the_worst_image(browser, app: App, tmp_path) -> None:
    run = save_adapter(app)
    data = write_dataset(tmp_path / "data", images=3, objects=2)
    with tab(browser) as (page, errors):
        open_page(page, app, "dataset")
        page.get_by_label("Folder of the dataset").or_(page.locator(".st-key-path input")).first.fill(str(data))
        page.keyboard.press("Enter")
        wait_until_idle(page)
        page.get_by_test_id("stSidebarNavItems").get_by_role("link", name="Evaluate").click()
        expect(page.get_by_role("heading", name="Evaluate", exact=True)).to_be_visible(timeout=60_000)
        expect(page.get_by_text("No evaluations yet")).to_be_visible()

        page.get_by_role("button", name="Evaluate", exact=True).click()
        expect(page.get_by_role("button", name="Cancel")).to_be_visible(timeout=60_000)
        verdict = page.get_by_role("heading", name=re.compile(r"finds \d+ of \d+ objects"))
        expect(verdict).to_be_visible(timeout=240_000)
        expect(page.get_by_test_id("stMetric")).to_have_count(4)
        assert list((run.folder / "evaluations").glob("*.json"))

        page.get_by_text("Worst images", exact=True).click()
        cards = page.locator('[class*="st-key-thumb-worst-"] img')
        expect(cards).to_have_count(3)
        cards.last.click(force=True)  # the picture, not the button below it
        page.wait_for_function(f"() => ({_SIZES})().filter((width) => width > 100).length === 3", timeout=60_000)
        wait_until_idle(page)
        page.keyboard.press("ArrowLeft")
        expect(page.get_by_text("2 of 3", exact=True)).to_be_visible()
        wait_until_idle(page)
        page.get_by_role("button", name="Open in Dataset").click()
        page.locator(".st-key-large-image img").wait_for(timeout=60_000)
        page.get_by_test_id("stSidebarNavItems").get_by_role("link", name="Evaluate").click()
        expect(page.get_by_text("2 of 3", exact=True)).to_be_visible(timeout=60_000)
        page.get_by_role("button", name="All images").click()
        expect(cards).to_have_count(3)
        wait_until_idle(page)
        assert violations(page) == []

        page.get_by_text("Prompt leak", exact=True).click()
        expect(page.locator(".js-plotly-plot")).to_have_count(2, timeout=60_000)
        with page.expect_download() as download:
            page.get_by_role("button", name="Markdown").click()
        assert verdict.inner_text() in download.value.path().read_text(encoding="utf-8")

        assert violations(page) == []

        page.reload()
        expect(verdict).to_be_visible(timeout=60_000)
        wait_until_idle(page)
        assert failures(page) == []
        assert errors == []
