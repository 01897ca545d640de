"""The first start in a real browser: the slider by the keyboard, the demo, and what is remembered of it."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import expect

from tests.e2e.browser import failures, open_page, running_app, tab, wait_until_idle
from tests.factories import write_dataset


def test_first_start(browser, tmp_path: Path) -> None:
    with running_app(tmp_path, SAM3_LORA_CONFIG=str(tmp_path / "config")) as app, tab(browser) as (page, errors):
        open_page(page, app)
        _move_the_slider(page)
        page.get_by_role("button", name="Try the demo", exact=True).click()
        expect(page.locator('[class*="st-key-predictions-"]')).to_have_count(2, timeout=60_000)
        wait_until_idle(page)
        assert page.get_by_text(re.compile(r"^The demo's adapter · [1-9]")).is_visible(), "it finds something"
        page.get_by_role("link", name="Now train your own").click()
        expect(page.get_by_role("button", name="Start training")).to_be_visible(timeout=60_000)
        page.get_by_test_id("stSidebarNavItems").get_by_role("link", name="Dataset").click()
        expect(page.locator('[class*="st-key-thumb-"] img').first).to_be_visible(timeout=60_000)
        wait_until_idle(page)
        page.get_by_test_id("stSidebarNavItems").get_by_role("link", name="Start").click()
        expect(page.locator(".st-key-recent-datasets")).to_contain_text("Demo")
        wait_until_idle(page)
        _browse(page, tmp_path)
        assert failures(page) == [] and errors == []


def _browse(page, folder: Path) -> None:
    """Opens a dataset by going from folder to folder; the sidebar names it from then on."""
    write_dataset(folder / "photos" / "potholes", images=3)
    expect(page.locator(".st-key-in-use")).to_contain_text("Demo")
    page.get_by_test_id("stSidebarNavItems").get_by_role("link", name="Dataset").click()
    page.get_by_role("button", name="Browse").click()
    dialog = page.get_by_test_id("stDialog")
    field = dialog.get_by_label("Folder", exact=True)
    field.fill(str(folder))
    field.press("Enter")
    dialog.get_by_role("button", name="photos").click()
    dialog.get_by_role("button", name="potholes").click()
    expect(field).to_have_value(str(folder / "photos" / "potholes"))
    dialog.get_by_role("button", name="Open this folder").click()
    expect(page.locator(".st-key-in-use")).to_contain_text("potholes", timeout=30_000)
    expect(page.locator('[class*="st-key-thumb-"] img')).to_have_count(4)
    wait_until_idle(page)


def _move_the_slider(page) -> None:
    slider = page.get_by_role("slider", name="Before and after")
    expect(slider).to_be_visible()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.sam3-before-after img')].every((image) => image.naturalWidth > 500)"
    )
    slider.focus()
    before = int(slider.input_value())
    for key, expected in (("ArrowRight", before + 1), ("ArrowLeft", before), ("Home", 0), ("End", 100)):
        page.keyboard.press(key)
        assert int(slider.input_value()) == expected
        assert f"{expected} %" in slider.get_attribute("aria-valuetext")
    assert page.locator(".sam3-before-after").evaluate("node => node.style.getPropertyValue('--split')") == "100%"
    box = slider.bounding_box()
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 40, steps=4)
    page.mouse.up()
    assert abs(int(slider.input_value()) - 30) <= 1
