"""A word is taught on the inference page, found on other images, kept, and used after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from sam3_lora.ui.adapters import NONE
from tests.e2e.browser import App, failures, open_page, running_app, tab, violations, wait_until_idle

ROWS = '[class*="st-key-predictions-base"]'


def phrases(page: Page):
    return page.get_by_role("textbox", name="Phrases", exact=True)


def teach(page: Page, name: str) -> None:
    page.get_by_role("button", name="Teach a word").click()
    page.get_by_role("textbox", name="Name").fill(name)
    page.keyboard.press("Tab")
    wait_until_idle(page)


def objects_found(page: Page) -> int:
    """How many objects the base model finds."""
    page.locator(ROWS).wait_for(timeout=90_000)
    wait_until_idle(page)
    (found,) = page.get_by_text("Base model ·").all_inner_texts()
    return int(found.split("·")[1].split()[0])


@pytest.mark.timeout(600)
def test_a_word_is_taught_found_kept_and_used_again(browser, tmp_path: Path) -> None:
    config = tmp_path / "config"
    with running_app(tmp_path, SAM3_LORA_CONFIG=str(config)) as app, tab(browser) as (page, errors):
        open_page(page, app, "inference", adapter=NONE)
        teach(page, "my hole")
        page.get_by_role("combobox", name="Category").click()
        page.get_by_role("option", name="pothole").click()
        wait_until_idle(page)
        assert violations(page) == []
        images = page.get_by_role("slider", name="Images with it")
        images.focus()
        for _ in range(2):
            page.keyboard.press("ArrowLeft")
        expect(images).to_have_value("3")
        page.get_by_role("button", name="Learn", exact=True).click()
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Prompt it").click(timeout=300_000)
        expect(phrases(page)).to_have_value("<my hole>, crack, pothole, joint, paint marking", timeout=30_000)
        objects_found(page)
        found = 0
        for example in (1, 2, 3):
            page.get_by_role("button", name=f"Example {example}").click(force=True)
            page.wait_for_timeout(500)
            found += objects_found(page)
        assert found > 0, "the base model knows none of these words, but now one more"
        assert failures(page) == [] and errors == []
    assert [path.name for path in (config / "concepts").iterdir()] == ["my-hole.safetensors"]

    with running_app(tmp_path, SAM3_LORA_CONFIG=str(config)) as app, tab(browser) as (page, errors):
        open_page(page, app, "inference", adapter=NONE)
        page.get_by_role("button", name="Teach a word").click()
        page.get_by_role("button", name="<my hole>").click()
        expect(phrases(page)).to_have_value("<my hole>, crack, pothole, joint, paint marking", timeout=30_000)
        page.keyboard.press("Escape")
        wait_until_idle(page)
        page.get_by_role("button", name="Example 2").click(force=True)
        page.wait_for_timeout(500)
        assert objects_found(page) > 0 and failures(page) == [], "the one with the pothole that the adapter solves"
        phrases(page).fill("<another word>")
        page.keyboard.press("Tab")
        wait_until_idle(page)
        page.get_by_role("button", name="Prompt", exact=True).click()
        page.locator('[data-testid="stAlertContentError"]').first.wait_for(timeout=60_000)
        assert "my hole" in failures(page)[0] and errors == []


def test_mistakes_are_one_sentence(browser, app: App) -> None:
    with tab(browser) as (page, errors):
        open_page(page, app, "inference")
        teach(page, "<x>")
        page.get_by_role("button", name="Learn", exact=True).click()
        page.locator('[data-testid="stAlertContentError"]').first.wait_for(timeout=60_000)
        assert "name" in failures(page)[0] and errors == []
        page.get_by_text("Boxes that are drawn").click()
        wait_until_idle(page)
        expect(page.get_by_role("button", name="Learn", exact=True)).to_be_disabled()
