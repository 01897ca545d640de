"""Every page in a real browser, light and dark: it draws, without an error on the screen or in the console."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sam3_lora.config import RunConfig
from tests.e2e.browser import App, failures, open_page, running_app, tab, unmarked, violations, wait_until_idle
from tests.factories import coco, write_split

VIEWS = {
    "start": ("", {}),
    "dataset": ("dataset", {"path": "demo"}),
    "label": ("label", {}),
    "configure": ("configure", {}),
    "train": ("train", {}),
    "inference": ("inference", {}),
    "evaluate": ("evaluate", {}),
}


SCREENS = [
    pytest.param(name, theme, marks=[] if theme == "light" or name in ("start", "train") else pytest.mark.slow)
    for name in VIEWS
    for theme in ("light", "dark")
]


@pytest.mark.parametrize(("name", "theme"), SCREENS)
def test_page_draws_without_errors(browser, app: App, name: str, theme: str) -> None:
    address, query = VIEWS[name]
    with tab(browser, theme) as (page, errors):
        open_page(page, app, address, **query)
        assert failures(page) == []
        assert violations(page) == []
        assert unmarked(page) == []
        assert errors == []


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_settings_draw_without_errors(browser, app: App, theme: str) -> None:
    with tab(browser, theme) as (page, errors):
        open_page(page, app, "configure")
        for section in RunConfig.model_fields:
            page.locator(f".st-key-section-{section} summary").click()
            wait_until_idle(page)
        assert page.locator('[class*="st-key-setting-"]').count() > 70
        assert failures(page) == [] and violations(page) == [] and unmarked(page) == [] and errors == []


def test_a_link_opens_its_page_even_if_it_is_the_first_thing_after_the_start(browser, tmp_path: Path) -> None:
    with running_app(tmp_path) as app, tab(browser) as (page, errors):
        open_page(page, app, "configure")
        page.get_by_role("heading", name="Configure", exact=True).wait_for()
        names = page.get_by_test_id("stSidebarNavItems").get_by_role("link").all_inner_texts()
        assert [name.split()[-1] for name in names] == [
            "Start",
            "Dataset",
            "Label",
            "Configure",
            "Train",
            "Inference",
            "Evaluate",
        ]
        assert errors == []


def test_thumbnail_opens_large_and_the_link_leads_back_to_it(browser, app: App) -> None:
    with tab(browser) as (page, errors):
        open_page(page, app, "dataset", path="demo")
        card = page.locator('[class*="st-key-thumb-1"]').first
        label = card.get_by_role("button").last.inner_text()
        card.locator("img").click(force=True)  # the picture, not the button below it
        page.locator(".st-key-large-image img").wait_for()
        wait_until_idle(page)
        address = page.url
        assert "image=" in address
    with tab(browser, "dark") as (page, errors):
        page.goto(address)
        page.locator(".st-key-large-image img").wait_for(timeout=30_000)
        wait_until_idle(page)
        assert page.get_by_text(label, exact=True).first.is_visible()
        assert failures(page) == [] and errors == []


def test_worst_findings_are_in_the_first_screen(browser, app: App, tmp_path: Path) -> None:
    data = coco(images=12)
    write_split(tmp_path / "train", data)
    for annotation in data["annotations"]:
        annotation["bbox"] = [0.25, 0.25, 0.5, 0.5]
    (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps(data), encoding="utf-8")
    with tab(browser) as (page, errors):
        open_page(page, app, "dataset", path=str(tmp_path))
        box = page.get_by_text("Boxes normalized", exact=True).bounding_box()
        assert box is not None and box["y"] + box["height"] < page.viewport_size["height"] / 2
        assert errors == []


def test_what_was_typed_is_still_there_after_looking_at_another_page(browser, app: App) -> None:
    with tab(browser) as (page, _):
        open_page(page, app, "inference")
        field = page.get_by_label("Phrases", exact=True)
        field.fill("one thing, another")
        field.press("Enter")
        wait_until_idle(page)
        for name in ("Evaluate", "Inference"):
            page.get_by_test_id("stSidebarNavLink").filter(has_text=name).click()
            page.get_by_role("heading", name=name).wait_for()
            wait_until_idle(page)
        assert page.get_by_label("Phrases", exact=True).input_value() == "one thing, another"
