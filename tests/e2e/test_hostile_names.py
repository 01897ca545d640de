"""Names from datasets, runs and reports in a real browser: shown as they are, and nothing in them acts."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page

from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.prompts import phrase_of
from sam3_lora.evaluate import EvaluationRequest, evaluate
from sam3_lora.evaluate.store import FOLDER, save
from tests.e2e.browser import App, open_page, wait_until_idle
from tests.e2e.hostile_page import check, download, each, go_to, watched
from tests.evaluate.fake_predictor import FakePredictor, no_loss, without_model  # noqa: F401
from tests.factories import coco, write_split
from tests.hostile import CONTROLS, FORMATTED, LONG, MARKUP
from tests.test_markdown import rendered
from tests.ui.run_folders import finished_run

pytestmark = pytest.mark.slow  # a walk through all pages

NAMES = (*MARKUP, *FORMATTED)
HOSTILE = "<img src=x onerror=window.__pwned=1>"  # may be the name of a file and of a folder
FILES = (HOSTILE, "![i](x)", ":red[r] :smile: **b**", "turned\u202earound", "$x^2$ `c`", "new\nline")


def text_of(page: Page) -> str:
    """What the page shows, in single spaces, without what keeps Streamlit from replacing signs."""
    return " ".join(page.locator("body").inner_text().replace("\u2060", "").split())


def choose(page: Page, label: str, option: str) -> None:
    """Opens the last list of that label and takes an option."""
    box = page.get_by_role("combobox", name=label).last
    box.scroll_into_view_if_needed()
    page.wait_for_timeout(500)  # scrolling closes a list that was just opened
    box.click()
    page.get_by_role("option", name=re.compile(option)).first.click()
    wait_until_idle(page)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset in which everything that has a name has a hostile one; each split with other categories."""
    root = tmp_path_factory.mktemp("data") / HOSTILE
    splits = {
        "train": (NAMES, FILES),
        "valid": ((*MARKUP[:4], *CONTROLS, LONG), FILES[:2]),
        "**b**": (FORMATTED, FILES),
    }
    for split, (names, files) in splits.items():
        content = coco(images=len(files), objects=len(names), empty_images=0, categories=names)
        for entry, name in zip(content["images"], files, strict=True):
            entry["file_name"] = f"{name}.png"
        write_split(root / split, content)
        content["images"].append({"id": 99, "file_name": f"{MARKUP[0]}gone.png", "width": 64, "height": 48})  # missing
        (root / split / "_annotations.coco.json").write_text(json.dumps(content), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def run(app: App, data: Path) -> str:
    """A run with a hostile name, settings and log, and an evaluation in it; its name."""
    made = finished_run(app.runs, "tried", 3)
    (made.folder / "log.txt").write_text("\n".join(NAMES), encoding="utf-8")
    status = json.loads((made.folder / "status.json").read_text())
    status |= {"message": " ".join(NAMES), "reload_proof": MARKUP[0], "state": "failed"}
    (made.folder / "status.json").write_text(json.dumps(status))
    split = open_dataset(data).split("valid").present()
    shown = [phrase_of(name) for name in (*MARKUP[:4], LONG)]
    request = EvaluationRequest(split, dataset=str(data), base_name=MARKUP[1], adapter_name=f"{MARKUP[0]}/best")
    with pytest.MonkeyPatch.context() as patch:
        without_model(patch)
        good = dict.fromkeys(shown, (1.0, 0.5))
        report = evaluate(FakePredictor(split, dict.fromkeys(shown, (0.3, 1.0)), good), request)
    save(report, made.folder / FOLDER)
    name = f"{made.name}-__{HOSTILE}"
    made.folder.rename(app.runs / name)
    finished_run(app.runs, "other", 3).folder.rename(app.runs / f"20250101-000000-{FILES[2]}")
    return name


def test_the_dataset_page_shows_names_as_they_are(browser, app: App, data: Path) -> None:
    with watched(browser, app) as page:
        open_page(page, app, "dataset", path=str(data))
        check(page, app)
        text = text_of(page)
        assert [name for name in MARKUP[:9] if name not in text] == []
        for number in range(3):  # tooltips are Markdown with a file's name
            page.locator(f".st-key-open-{number} button").first.hover()
            page.get_by_test_id("stTooltipContent").first.wait_for(timeout=30_000)
            check(page, app)
        page.mouse.move(0, 0)
        each(page, app, ("Phrases",), lambda view: None)
        page.evaluate("() => document.querySelectorAll('.st-key-view button')[1].click()")  # Findings (number)
        wait_until_idle(page)
        check(page, app)
        assert MARKUP[0] in text_of(page)
        each(page, app, ("Statistics",), lambda view: None)
        page.get_by_role("button", name="Scan all images").click()
        page.locator(".js-plotly-plot").first.wait_for(timeout=120_000)
        wait_until_idle(page)
        check(page, app)
        assert MARKUP[0][:30] in text_of(page)


def test_an_image_with_hostile_objects_is_drawn(browser, app: App, data: Path) -> None:
    with watched(browser, app) as page:
        open_page(page, app, "dataset", path=str(data), split="valid", image=f"{HOSTILE}.png")
        check(page, app)
        assert HOSTILE in text_of(page)
        box = page.locator(".sam3-viewer").bounding_box()
        assert box is not None
        for share in (0.3, 0.5, 0.7):
            page.mouse.move(box["x"] + share * box["width"], box["y"] + share * box["height"])
            check(page, app)
        each(page, app, ("What the model sees",), lambda view: None)
        assert "tensor(" in text_of(page)


def test_a_run_with_a_hostile_name_is_shown(browser, app: App, run: str) -> None:
    def look(details: str) -> None:
        assert HOSTILE in text_of(page)
        if details == "Compare":
            choose(page, "Compare with", "smile")
            page.keyboard.press("Escape")
            choose(page, "Curves", "Total loss")
            wait_until_idle(page)
            check(page, app)
            assert page.locator(".sam3-live-chart").count() == 2

    with watched(browser, app) as page:
        open_page(page, app, "train", run=run)
        names = ("Adapters", "Last step", "Compare", "All runs", "Log", "Settings")
        each(page, app, names, look)
        page.get_by_role("button", name="More", exact=True).click()
        file, content = download(page, "Download")
        members = zipfile.ZipFile(io.BytesIO(content)).namelist()
        assert len(members) > 3 and not any(".." in name or name.startswith("/") for name in members)
        assert file.suggested_filename.endswith(".zip")


def test_an_evaluation_shows_phrases_as_they_are(browser, app: App, run: str) -> None:
    def look(view: str) -> None:
        text = text_of(page)
        assert HOSTILE in text
        if view == "Curves":
            assert phrase_of(MARKUP[3]) in text and "long long" in text and len(text) < 20_000
        if view in ("Curves", "Prompt leak"):
            page.locator(".js-plotly-plot").first.wait_for(timeout=60_000)
            page.locator(".js-plotly-plot").first.hover()
            check(page, app)
            page.get_by_role("button", name="Table").first.click()
            page.get_by_test_id("stPopoverBody").get_by_test_id("stDataFrame").wait_for()
            check(page, app)
            page.keyboard.press("Escape")
        if view == "Worst images":
            page.locator('[class*="st-key-thumb-worst-"] img').first.click(force=True)
            page.get_by_role("button", name="All images").wait_for()
            check(page, app)

    with watched(browser, app) as page:
        open_page(page, app, "evaluate")
        each(page, app, ("Numbers", "Gain and loss", "Curves", "Prompt leak", "Worst images", "Thresholds"), look)
        _, markdown = download(page, "Markdown")
        texts, _ = rendered(markdown.decode())
        assert any(HOSTILE in text for text in texts)
        _, content = download(page, "JSON")
        assert json.loads(content)["adapter_name"] == f"{MARKUP[0]}/best"


def test_predictions_for_hostile_names_are_shown_and_saved(browser, app: App, data: Path) -> None:
    with watched(browser, app) as page:
        open_page(page, app, "dataset", path=str(data))
        go_to(page, "Configure")
        check(page, app)
        go_to(page, "Inference")
        check(page, app)
        fields = page.locator("input").evaluate_all("inputs => inputs.map((input) => input.value)")
        assert any(HOSTILE in value for value in (text_of(page), *fields))
        page.get_by_role("combobox", name="Adapter").first.click()
        page.get_by_role("option", name="No adapter").click()  # those of the runs have no weights
        wait_until_idle(page)
        field = page.get_by_label("Phrases", exact=True)
        field.fill(f"{field.input_value()}, square, circle, blob, bar")  # which the base model knows
        field.press("Enter")
        wait_until_idle(page)
        page.get_by_role("slider", name="Score threshold").focus()
        page.keyboard.press("Home")
        wait_until_idle(page)
        page.get_by_role("button", name="Prompt", exact=True).click()
        page.get_by_role("button", name="CSV", exact=True).wait_for(timeout=120_000)
        wait_until_idle(page)
        check(page, app)
        _, table = download(page, "CSV")
        rows = list(csv.reader(io.StringIO(table.decode())))
        assert len(rows) > 1 and not any(cell[:1] in "=+-@\t\r\n" and cell for row in rows for cell in row)
        _, coco_json = download(page, "COCO")
        found = json.loads(coco_json)
        assert len(found["annotations"]) == len(rows) - 1
        assert {row[1].removeprefix("'") for row in rows[1:]} <= {one["name"] for one in found["categories"]}
        _, masks = download(page, "Masks")
        names = zipfile.ZipFile(io.BytesIO(masks)).namelist()
        assert len(names) == len(rows) - 1 and all(re.fullmatch(r"[\w-]+/[\w-]+\.png", name) for name in names)
        _, picture = download(page, "Image")
        assert picture.startswith(b"\x89PNG")
