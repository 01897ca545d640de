"""The dataset page in a real browser: from a finding to an image, and to what the model makes of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.e2e.browser import App, failures, open_page, tab, wait_until_idle
from tests.factories import FOUNDING_BUGS, coco, write_spoiled

VIEWER = ".sam3-viewer"


def two_images_with_boxes_outside(data: dict[str, Any]) -> None:
    for item in data["annotations"]:
        if item["image_id"] in (2, 5):
            item["bbox"][0] += 40


def test_from_a_finding_to_what_the_model_sees(browser, app: App, tmp_path: Path) -> None:
    folder = write_spoiled(tmp_path, two_images_with_boxes_outside, images=8, categories=("class_1", "crack"))
    names = [entry["file_name"] for entry in coco(images=8)["images"]]
    with tab(browser) as (page, errors):
        open_page(page, app, path=str(folder))
        _filter_by_the_finding(page)
        thumbnails = page.locator('[class*="st-key-thumb-"] img')
        expect(thumbnails).to_have_count(2)
        thumbnails.first.click(force=True)
        _expect_large(page, names[2])
        _zoom_and_hover(page)
        _step_with_the_arrow_keys(page, names[2], names[5])
        _change_the_phrase(page, "class_1", "road damage")
        _see_it_asked(page, names[2])
        assert failures(page) == [] and errors == []


def test_quick_arrow_keys_are_all_followed_and_the_browser_goes_back(browser, app: App, tmp_path: Path) -> None:
    folder = write_spoiled(tmp_path, lambda data: None, images=12)
    names = [entry["file_name"] for entry in coco(images=12)["images"]]
    with tab(browser) as (page, errors):
        open_page(page, app, path=str(folder))
        page.locator('[class*="st-key-thumb-0"] img').click(force=True)
        _expect_large(page, names[0])
        wait_until_idle(page)
        for _ in range(7):
            page.keyboard.press("ArrowRight")
            page.wait_for_timeout(50)
        page.keyboard.press("ArrowLeft")
        _expect_large(page, names[6])
        wait_until_idle(page)
        page.get_by_text("What the model sees", exact=True).click()
        page.get_by_text("Targets of the loss").wait_for(timeout=60_000)
        wait_until_idle(page)
        page.wait_for_timeout(1500)  # going back at once is taken for an address that lags behind
        page.go_back()
        _expect_large(page, names[6])
        wait_until_idle(page)
        page.get_by_role("button", name="All images").click()
        page.locator('[class*="st-key-thumb-0"] img').wait_for()
        wait_until_idle(page)
        page.wait_for_timeout(1500)
        page.go_back()
        _expect_large(page, names[6])
        assert failures(page) == [] and errors == []


def _expect_large(page, name: str) -> None:
    expect(page.locator(f'{VIEWER}[aria-label^="{name}"]')).to_be_visible(timeout=30_000)


def _filter_by_the_finding(page) -> None:
    page.get_by_role("combobox", name=re.compile("Finding")).click()
    page.get_by_role("option", name=re.compile("Boxes outside image")).click()
    wait_until_idle(page)


def _zoom_and_hover(page) -> None:
    viewer = page.locator(VIEWER)
    viewer.locator("img").wait_for()
    wait_until_idle(page)
    box = viewer.locator("rect").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(viewer.locator(".tip")).to_contain_text(re.compile(r"Box \d+, \d+, \d+ × \d+ px"))
    page.mouse.wheel(0, -300)
    page.wait_for_function(f"() => Number(document.querySelector('{VIEWER}').dataset.zoom) > 1.2")
    viewer.dblclick()
    page.wait_for_function(f"() => Number(document.querySelector('{VIEWER}').dataset.zoom) === 1")


def _step_with_the_arrow_keys(page, first: str, second: str) -> None:
    page.keyboard.press("ArrowRight")
    _expect_large(page, second)
    wait_until_idle(page)
    assert f"image={second}" in page.url
    page.keyboard.press("ArrowLeft")
    _expect_large(page, first)
    wait_until_idle(page)


def _change_the_phrase(page, category: str, words: str) -> None:
    page.get_by_role("button", name="All images").click()
    wait_until_idle(page)
    page.get_by_role("radio", name="Phrases").or_(page.get_by_role("button", name="Phrases")).first.click()
    wait_until_idle(page)
    table = page.get_by_test_id("stDataFrame")
    table.wait_for()
    box = table.bounding_box()
    page.mouse.dblclick(box["x"] + box["width"] * 0.4, box["y"] + 50)  # the phrase of the first row
    cell = page.locator("#portal textarea, #portal input").first  # the table is a canvas; its editor is not
    cell.wait_for()
    cell.fill(words)
    cell.press("Enter")
    expect(page.get_by_text(f"{category} → {words}")).to_be_visible(timeout=30_000)
    wait_until_idle(page)


def _see_it_asked(page, name: str) -> None:
    page.get_by_role("radio", name="Images").or_(page.get_by_role("button", name="Images", exact=True)).first.click()
    wait_until_idle(page)
    page.locator('[class*="st-key-thumb-0"] img').click(force=True)
    _expect_large(page, name)
    page.get_by_text("What the model sees", exact=True).click()
    expect(page.get_by_label(re.compile("^Phrases: .*road damage"))).to_be_visible(timeout=60_000)
    wait_until_idle(page)


@pytest.mark.parametrize(("spoil", "title"), FOUNDING_BUGS)
def test_each_founding_bug_is_in_the_first_screen_with_its_fix(
    browser, app: App, tmp_path: Path, spoil: Callable[[dict[str, Any]], None], title: str
) -> None:
    with tab(browser) as (page, errors):
        open_page(page, app, path=str(write_spoiled(tmp_path, spoil, images=12)))
        worst = page.locator('[class*="st-key-worst-0"]')
        assert title in worst.inner_text()
        box = worst.bounding_box()
        assert box is not None and box["y"] + box["height"] < page.viewport_size["height"]
        assert failures(page) == [] and errors == []
