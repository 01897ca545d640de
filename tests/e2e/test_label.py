"""The label page in a real browser: by keyboard, killed and started again, and the round of training on it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from sam3_lora.config import ASSETS
from sam3_lora.data.dataset import open_dataset
from sam3_lora.label.decisions import read_all
from tests.e2e.browser import App, failures, open_page, running_app, tab, unmarked, violations, wait_until_idle

DEMO = ASSETS / "demo" / "dataset"
LABELLER = ".sam3-labeller[data-image]"
IMAGE = ".sam3-labeller .sam3-viewer"
ITEMS = ".sam3-labeller .items button"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted((DEMO / "train").rglob("*.jpg"))[:7]:
        shutil.copy(path, folder)
    return folder


def shown(page: Page) -> str:
    """The name of the image that is shown."""
    wait_until_idle(page)
    return page.locator(LABELLER).get_attribute("data-image") or ""


def press(page: Page, *keys: str) -> None:
    """Presses keys as fast as a machine can; the last one leads to another image, or to the end."""
    before = page.locator(LABELLER).get_attribute("data-image")
    for key in keys:
        page.keyboard.press(key)
    left = "([selector, before]) => document.querySelector(selector)?.dataset.image !== before"
    page.wait_for_function(left, arg=[LABELLER, before], timeout=60_000)


def start(page: Page, app: App, folder: Path) -> None:
    open_page(page, app, "label")
    page.get_by_label("Folder of images").fill(str(folder))
    page.keyboard.press("Tab")
    wait_until_idle(page)
    page.get_by_role("button", name="Start labelling").click()
    page.locator(LABELLER).wait_for(timeout=90_000)
    wait_until_idle(page)


def decisions(config: Path) -> dict:
    (folder,) = (config / "label").iterdir()
    found, problems = read_all(folder / "decisions")
    assert not problems
    return found


@pytest.mark.timeout(600)
def test_five_images_by_keyboard_a_kill_and_a_round_of_training(browser, photos: Path, tmp_path: Path) -> None:
    config = tmp_path / "config"
    with running_app(tmp_path, SAM3_LORA_CONFIG=str(config)) as app, tab(browser) as (page, errors):
        start(page, app, photos)
        assert violations(page) == [] and unmarked(page) == []
        seen, many = [], 0
        for keys in (["a"], ["n"], ["Delete", "a"], None, ["ArrowDown", "Delete", "a"]):
            seen.append(shown(page))
            if keys is None:  # every key counts, however fast they come: one for each object, one for the next image
                many = page.locator(ITEMS).count()
                keys = ["Enter"] * (many + 1)
            press(page, *keys)
        expect(page.get_by_text("5 of 7")).to_be_visible(timeout=30_000)
        last = shown(page)
        assert len(set(seen)) == 5 and last not in seen and failures(page) == [] and errors == []
        address = page.url
        app.server.kill()
    found = decisions(config)
    assert set(found) == set(seen) and found[seen[1]].objects == () and len(found[seen[3]].objects) == many
    assert found[seen[0]].corrections == 0 and found[seen[0]].proposed == len(found[seen[0]].objects)

    with running_app(tmp_path, SAM3_LORA_CONFIG=str(config)) as app, tab(browser) as (page, errors):
        open_page(page, app, "label", **dict([address.partition("?")[2].split("&")[0].split("=")]))
        expect(page.get_by_text("5 of 7")).to_be_visible(timeout=90_000)
        page.locator(LABELLER).wait_for(timeout=90_000)
        assert shown(page) not in seen
        page.get_by_role("button", name="Use the labels").click()
        page.get_by_role("button", name="Train on these").click()
        page.get_by_test_id("stMain").get_by_role("link", name="Change settings").wait_for(timeout=60_000)
        expect(page.get_by_text("1 of the 5 images")).to_be_visible(timeout=60_000)
        page.get_by_test_id("stMain").get_by_role("link", name="Change settings").click()
        page.get_by_label("Epochs", exact=True).fill("1")
        page.keyboard.press("Tab")
        wait_until_idle(page)
        page.get_by_role("button", name="Go to training").click()
        page.get_by_role("button", name="Start training").click()
        page.get_by_text("Finished").first.wait_for(timeout=300_000)
        page.get_by_test_id("stSidebarNavItems").get_by_role("link", name="Label").click()
        wait_until_idle(page)
        page.locator(LABELLER).wait_for(timeout=90_000)
        wait_until_idle(page)
        page.get_by_role("button", name="Options").click()
        adapter = page.get_by_role("combobox", name="Adapter")
        expect(adapter).to_have_value(re.compile(r"^run \(best\), \d"), timeout=30_000)
        page.keyboard.press("Escape")
        expect(page.get_by_role("combobox", name="Adapter")).to_have_count(0)
        press(page, "n")
        expect(page.get_by_text("6 of 7")).to_be_visible(timeout=30_000)
        assert failures(page) == [] and errors == []
    (newest,) = set(decisions(config)) - set(seen)
    assert "run" in decisions(config)[newest].model and "-run" not in found[seen[0]].model
    (session,) = (config / "label").iterdir()
    dataset = open_dataset(session / "dataset")
    assert len(dataset.split("train").images) == 5 and not dataset.split("train").images.missing.any()


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drags over the image, between two places in shares of its sides."""
    box = page.locator(".sam3-labeller .stage").bounding_box()
    (x0, y0), (x1, y1) = ((box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end))
    page.mouse.move(x0, y0)
    page.mouse.down()
    page.mouse.move(x1, y1, steps=5)
    page.mouse.up()


def test_boxes_are_drawn_and_a_dataset_is_reviewed(browser, tmp_path: Path) -> None:
    config = tmp_path / "config"
    with running_app(tmp_path, SAM3_LORA_CONFIG=str(config)) as app, tab(browser) as (page, errors):
        open_page(page, app, "label")
        page.get_by_text("Review a dataset's labels").click()
        wait_until_idle(page)
        page.get_by_role("button", name="Start labelling").click()
        page.locator(LABELLER).wait_for(timeout=90_000)
        name = shown(page)
        labels = {Path(record.file_name).name: record for record in open_dataset("demo").splits["train"].images}
        about = page.locator(".sam3-labeller .about").all_inner_texts()
        assert sum(text.startswith("Label") for text in about) == len(labels[Path(name).name].annotations)
        before = page.locator(ITEMS).count()
        page.keyboard.press("b")
        page.keyboard.press("2")
        drag(page, (0.1, 0.1), (0.3, 0.35))
        expect(page.locator(ITEMS)).to_have_count(before + 1, timeout=60_000)
        expect(page.locator(ITEMS).last).to_contain_text("Drawn")
        page.keyboard.press("b")
        page.keyboard.press("x")
        drag(page, (0.7, 0.7), (0.9, 0.9))
        expect(page.get_by_text("SAM 3 looks again")).to_have_count(0, timeout=60_000)
        assert violations(page) == [] and unmarked(page) == []
        press(page, "a")
        assert failures(page) == [] and errors == []
        page.keyboard.press("p")
        page.wait_for_function(
            "([one, name]) => document.querySelector(one).dataset.image === name", arg=[LABELLER, name]
        )
        press(page, "Enter")
    (decision,) = decisions(config).values()
    assert decision.image == name and decision.seconds > 0
    assert any(one.source == "drawn" for one in decision.objects)
    assert sum(one.source == "annotation" for one in decision.objects) == len(labels[Path(name).name].annotations)


@pytest.mark.slow
def test_what_cannot_be_written_stays_on_the_screen(browser, photos: Path, tmp_path: Path) -> None:
    config = tmp_path / "config"
    (photos / "broken.jpg").write_bytes(b"no image")
    with running_app(tmp_path, SAM3_LORA_CONFIG=str(config)) as app, tab(browser) as (page, errors):
        start(page, app, photos)
        press(page, "a")
        (session,) = (config / "label").iterdir()
        (session / "decisions").rename(session / "away")
        (session / "decisions").write_text("in the way", encoding="utf-8")
        name = shown(page)
        page.keyboard.press("a")
        page.locator('[data-testid="stAlertContentError"]').wait_for(timeout=30_000)
        wait_until_idle(page)
        assert shown(page) == name and len(failures(page)) == 1
        (session / "decisions").unlink()
        (session / "away").rename(session / "decisions")
        press(page, "Enter")
        assert failures(page) == [] and len(decisions(config)) == 2
        for _ in range(5):
            press(page, "n")
        page.get_by_text("All 7 images are labelled").wait_for(timeout=30_000)
        page.get_by_text("1 image cannot be read").click()
        page.get_by_text("broken.jpg").wait_for(timeout=30_000)
        assert failures(page) == [] and errors == []


def test_mistakes_are_one_sentence(browser, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with running_app(tmp_path, SAM3_LORA_CONFIG=str(tmp_path / "config")) as app, tab(browser) as (page, errors):
        for folder in (tmp_path / "empty", tmp_path / "gone"):
            open_page(page, app, "label")
            page.get_by_label("Folder of images").fill(str(folder))
            page.keyboard.press("Tab")
            wait_until_idle(page)
            page.get_by_role("button", name="Start labelling").click()
            page.locator('[data-testid="stAlertContentError"]').wait_for(timeout=30_000)
            assert len(failures(page)) == 1 and "Traceback" not in failures(page)[0]
        open_page(page, app, "label", session="../../etc")
        assert len(failures(page)) == 1 and "unexpected" not in failures(page)[0]
        assert errors == []
