"""The inference page in a real browser: example, sliders, exemplar box, folder and downloads."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

from sam3_lora.masks import mask_to_box_xyxy
from sam3_lora.ui.adapters import NONE
from scripts import scenes
from tests.e2e.browser import App, failures, open_page, tab, violations, wait_until_idle
from tests.e2e.helpers import save_adapter


def test_from_the_example_to_the_files(browser, app: App, tmp_path) -> None:
    save_adapter(app)
    with tab(browser) as (page, errors):
        open_page(page, app, "inference", dataset=str(write_scenes(tmp_path)))
        page.get_by_role("button", name="Example 2").click(force=True)
        both = page.locator('[class*="st-key-predictions-"]')
        expect(both).to_have_count(2, timeout=60_000)
        wait_until_idle(page)
        image = page.locator(".st-key-predictions-base").bounding_box()
        assert image is not None and image["y"] < page.viewport_size["height"] * 0.6, "seen without scrolling"

        found = sum(counts(page))
        move(page, "Score threshold", "Home")
        assert sum(counts(page)) > found, "a lower threshold shows more"
        move(page, "Adapter strength", "Home")
        expect(page.get_by_text(re.compile("^Adapter: .*, strength 0"))).to_be_visible(timeout=60_000)
        base, adapter = counts(page)
        assert base == adapter, "at strength 0 the adapter is the base model"

        draw_a_box(page)
        expect(page.get_by_text("1 positive")).to_be_visible(timeout=30_000)
        expect(page.get_by_text("Changed since: exemplar boxes")).to_be_visible()
        page.get_by_role("button", name="Prompt", exact=True).click()
        expect(page.get_by_text("Press Prompt to update")).to_have_count(0, timeout=60_000)
        wait_until_idle(page)

        coco = json.loads(take(page, "COCO"))
        assert len(coco["annotations"]) == take(page, "CSV").decode().count("\n") - 1 > 0
        assert len(zipfile.ZipFile(io.BytesIO(take(page, "Masks"))).namelist()) == len(coco["annotations"])
        assert max(Image.open(io.BytesIO(take(page, "Image"))).size) >= 640

        assert failures(page) == [] and violations(page) == []
        assert errors == []


def test_boxes_on_one_image_are_asked_of_another_in_tiles_and_of_a_folder(browser, app: App, tmp_path) -> None:
    folder = write_scenes(tmp_path)
    with tab(browser) as (page, errors):
        open_page(page, app, "inference", dataset=str(folder), adapter=NONE)
        draw_a_box(page)
        draw_a_box(page, 200, 180)
        expect(page.get_by_text("2 positive")).to_be_visible(timeout=30_000)
        page.get_by_role("button", name="Example 3").click(force=True)
        wait_until_idle(page)
        page.get_by_text("Find the like of boxes on 1 other image").click()
        wait_until_idle(page)
        page.get_by_role("textbox", name="Phrases", exact=True).fill("")
        page.keyboard.press("Tab")
        wait_until_idle(page)
        page.get_by_role("button", name="Options").click()
        page.get_by_role("combobox", name="Large images").click()
        page.get_by_role("option", name="In tiles").click()
        page.get_by_role("spinbutton", name="Side of a tile in pixels").fill("200")
        page.keyboard.press("Tab")
        wait_until_idle(page)
        assert violations(page) == []
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Prompt", exact=True).click()
        expect(page.get_by_text("Press Prompt to update")).to_have_count(0, timeout=60_000)
        wait_until_idle(page)
        assert failures(page) == []
        assert json.loads(take(page, "COCO"))["categories"][0]["name"] == "visual"

        page.get_by_text("A folder", exact=True).click()
        field = page.get_by_role("textbox", name="Folder of images")
        field.fill(str(folder))
        field.press("Enter")
        wait_until_idle(page)
        page.get_by_role("button", name="Prompt", exact=True).click()
        expect(page.get_by_text(re.compile(r"\d+ objects? in \d of 4 images"))).to_be_visible(timeout=60_000)
        expect(page.get_by_text("like boxes on 1 image")).to_be_visible()
        expect(page.get_by_text("in tiles of 200 pixels")).to_be_visible()
        assert failures(page) == [] and errors == []


def test_a_folder_with_a_broken_image_is_processed_to_its_end(browser, app: App, tmp_path) -> None:
    for number in range(3):
        Image.new("RGB", (64, 48), (90 * number, 60, 40)).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with tab(browser) as (page, errors):
        open_page(page, app, "inference", phrases="circle")
        page.get_by_text("A folder", exact=True).click()
        field = page.get_by_role("textbox", name="Folder of images")
        field.fill(str(tmp_path))
        field.press("Enter")
        wait_until_idle(page)
        page.get_by_role("button", name="Prompt", exact=True).click()
        expect(page.get_by_text("1 file skipped")).to_be_visible(timeout=60_000)
        wait_until_idle(page)
        expect(page.get_by_alt_text(re.compile(r"^\d\.png"))).to_have_count(3)
        assert [one["file_name"] for one in json.loads(take(page, "COCO"))["images"]] == ["0.png", "1.png", "2.png"]
        assert failures(page) == []
        assert errors == []


def write_scenes(folder: Path) -> Path:
    """A dataset of four scenes such as the demo's base model has learned from."""
    kinds, images, annotations = list(scenes.KINDS), [], []
    for number in range(4):
        scene = scenes.make_scene(np.random.default_rng((0, 1, number)))
        name = f"{number}.png"
        images.append({"id": number, "file_name": name, "width": scenes.SIDE, "height": scenes.SIDE})
        Image.fromarray(scene.image).save(folder / name)
        for figure in scene.figures:
            left, top, right, bottom = mask_to_box_xyxy(figure.mask)
            box = [float(side) for side in (left, top, right - left, bottom - top)]
            entry = {"image_id": number, "category_id": kinds.index(figure.kind), "bbox": box, "iscrowd": 0}
            annotations.append({"id": len(annotations), **entry})
    categories = [{"id": index, "name": kind} for index, kind in enumerate(kinds)]
    data = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "_annotations.coco.json").write_text(json.dumps(data), encoding="utf-8")
    return folder


def counts(page: Page) -> list[int]:
    """Objects shown by the base model and by the adapter."""
    texts = page.get_by_text(re.compile(r"^· \d+ objects? · ")).all_inner_texts()
    assert len(texts) == 2
    return [int(re.search(r"\d+", text)[0]) for text in texts]


def move(page: Page, slider: str, key: str) -> None:
    page.get_by_role("slider", name=slider).focus()
    page.keyboard.press(key)
    page.wait_for_timeout(500)
    wait_until_idle(page)


def draw_a_box(page: Page, left: int = 40, top: int = 40) -> None:
    if not page.locator(".st-key-exemplar-canvas").count():
        page.get_by_text("Draw exemplar boxes").click()
    canvas = page.locator(".st-key-exemplar-canvas canvas").last
    expect(canvas).to_be_visible(timeout=60_000)
    canvas.scroll_into_view_if_needed()
    place = canvas.bounding_box()
    page.mouse.move(place["x"] + left, place["y"] + top)
    page.mouse.down()
    page.mouse.move(place["x"] + left + 120, place["y"] + top + 100, steps=5)
    page.mouse.up()
    wait_until_idle(page)


def take(page: Page, label: str) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("button", name=label, exact=True).click()
    return download.value.path().read_bytes()
