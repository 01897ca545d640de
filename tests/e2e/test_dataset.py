"""The dataset page in a real browser: from a finding to an image, and to what the model makes of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.findings.titles import title_of
from tests.e2e.browser import App, failures, open_page, tab, violations, wait_until_idle
from tests.factories import FOUNDING_BUGS, coco, write_dataset, write_spoiled

VIEWER = ".sam3-viewer"


def two_images_with_boxes_outside(data: dict[str, Any]) -> None:
    for item in data["annotations"]:
        if item["image_id"] in (2, 5):
            item["bbox"][0] += 40


def test_from_a_finding_to_what_the_model_sees(browser, app: App, tmp_path: Path) -> None:
    folder = write_spoiled(tmp_path, two_images_with_boxes_outside, images=8, categories=("class_1", "crack"))
    names = [entry["file_name"] for entry in coco(images=8)["images"]]
    with tab(browser) as (page, errors):
        open_page(page, app, "dataset", path=str(folder))
        _filter_by_the_finding(page)
        thumbnails = page.locator('[class*="st-key-thumb-"] img')
        expect(thumbnails).to_have_count(2)
        thumbnails.first.click(force=True)
        _expect_large(page, names[2])
        _zoom_and_hover(page)
        _step_with_the_arrow_keys(page, names[2], names[5])
        _change_the_phrase(page, "class_1", "road damage")
        assert violations(page) == []
        _see_it_asked(page, names[2])
        assert failures(page) == [] and violations(page) == [] and errors == []


def test_a_leaked_image_is_fixed_undone_and_written_out(browser, app: App, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "data", images=4)
    noise = np.random.default_rng(0)
    for path in sorted((folder / "valid").glob("*.png"))[1:]:  # the factory draws both splits alike
        with Image.open(path) as image:
            size = image.size
        Image.fromarray(noise.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    leaked, undone = title_of("leaked-images"), False
    with tab(browser) as (page, errors):
        open_page(page, app, "dataset", path=str(folder))
        page.get_by_role("button", name="Scan all images").click()
        expect(page.get_by_text(leaked, exact=True)).to_be_visible(timeout=60_000)
        wait_until_idle(page)
        for _ in range(2):
            page.get_by_role("button", name="Fix", exact=True).first.click()
            expect(page.get_by_text("5 → 4 images")).to_be_visible(timeout=30_000)
            assert violations(page) == []
            page.get_by_role("button", name="Apply").click()
            page.get_by_role("button", name="1 edit").click(timeout=30_000)
            if not undone:
                undone = True
                page.get_by_role("button", name="Undo", exact=True).click()
                expect(page.get_by_role("button", name="1 edit")).to_have_count(0, timeout=30_000)
                expect(page.get_by_text(leaked, exact=True)).to_be_visible(timeout=60_000)  # scanned again
                wait_until_idle(page)
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Write out").click()
        page.get_by_role("button", name="Write dataset").click()
        page.get_by_role("button", name="Open it").click(timeout=60_000)
        expect(page.locator(".st-key-in-use")).to_contain_text("data-edited", timeout=30_000)
        page.get_by_role("button", name="Scan all images").click()
        expect(page.get_by_text("9 images scanned.")).to_be_visible(timeout=60_000)
        expect(page.get_by_text(leaked, exact=True)).to_have_count(0)
        assert failures(page) == [] and errors == []
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_object_is_relabelled_and_two_datasets_are_merged(browser, app: App, tmp_path: Path) -> None:
    one = write_dataset(tmp_path / "one", ("train", "valid"), categories=("crack", "pothole"))
    other = write_dataset(tmp_path / "other", ("train",), categories=("Cracks", "manhole"))
    before = open_dataset(one).split("train").objects_per_category()
    with tab(browser) as (page, errors):
        open_page(page, app, "dataset", path=str(one))
        page.locator('[class*="st-key-thumb-1"] img').first.click(force=True)
        page.locator(".st-key-large-image img").wait_for()
        wait_until_idle(page)
        for box in page.locator(f"{VIEWER} svg rect").all():  # an object of the image is selected by a click
            box.click(force=True)
            page.locator(f"{VIEWER} .is-chosen").first.wait_for(timeout=30_000)
            wait_until_idle(page)
            if page.get_by_role("button", name="Exclude crack").count():
                break
        page.get_by_role("combobox", name="Relabel the object").click()
        page.get_by_role("option", name="pothole").click()
        expect(page.get_by_test_id("stToast")).to_contain_text("Relabel as pothole", timeout=30_000)
        page.get_by_role("button", name="All images").click()
        page.get_by_text("Findings, 1 edit").click()
        page.get_by_role("button", name="Merge with another dataset").click()
        page.get_by_role("combobox", name="Other dataset").fill(str(other))
        page.keyboard.press("Enter")
        expect(page.get_by_text("1 renamed, 1 new")).to_be_visible(timeout=30_000)
        page.get_by_role("button", name="Merge", exact=True).click()
        page.get_by_role("button", name="Open it").click(timeout=60_000)
        expect(page.locator(".st-key-in-use")).to_contain_text("one-merged", timeout=30_000)
        assert failures(page) == [] and errors == []
    both = open_dataset(tmp_path / "one-merged")
    added = open_dataset(other).split("train").objects_per_category()
    found = both.split("train").objects_per_category()
    assert both.categories == ("crack", "pothole", "manhole") and found["manhole"] == added["manhole"]
    assert found["pothole"] == before["pothole"] + 1 and found["crack"] == before["crack"] - 1 + added["Cracks"]


def test_quick_arrow_keys_are_all_followed_and_the_browser_goes_back(browser, app: App, tmp_path: Path) -> None:
    folder = write_spoiled(tmp_path, lambda data: None, images=12)
    names = [entry["file_name"] for entry in coco(images=12)["images"]]
    with tab(browser) as (page, errors):
        open_page(page, app, "dataset", path=str(folder))
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
    page.get_by_role("option", name=re.compile(title_of("boxes-outside-image"))).click()
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


@pytest.mark.parametrize(("spoil", "kind"), FOUNDING_BUGS)
def test_each_founding_bug_is_in_the_first_screen_with_its_fix(
    browser, app: App, tmp_path: Path, spoil: Callable[[dict[str, Any]], None], kind: str
) -> None:
    with tab(browser) as (page, errors):
        open_page(page, app, "dataset", path=str(write_spoiled(tmp_path, spoil, images=12)))
        worst = page.locator('[class*="st-key-worst-0"]')
        assert title_of(kind) in worst.inner_text()
        box = worst.bounding_box()
        assert box is not None and box["y"] + box["height"] < page.viewport_size["height"]
        assert failures(page) == [] and errors == []
