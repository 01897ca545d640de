"""Names from datasets, runs and reports in a real browser: shown as they are, and nothing in them acts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page

from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.prompts import phrase_of
from sam3_lora.evaluate import EvaluationRequest, evaluate
from sam3_lora.evaluate.store import FOLDER, save
from tests.e2e.browser import App, open_page, tab, wait_until_idle
from tests.evaluate.fake_predictor import FakePredictor, no_loss, without_model  # noqa: F401
from tests.factories import coco, write_split
from tests.hostile import CONTROLS, FORMATTED, LONG, MARKUP
from tests.ui.run_folders import finished_run

NAMES = (*MARKUP, *FORMATTED)
HOSTILE = "<img src=x onerror=window.__pwned=1>"  # may be the name of a file and of a folder
FILES = (HOSTILE, "![i](x)", ":red[r] :smile: **b**", "turned\u202earound", "$x^2$ `c`", "new\nline")


@contextmanager
def watched(browser, app: App) -> Iterator[Page]:
    """A tab; nothing that it shows may run a script, open a dialog or ask another machine."""
    dialogs, foreign = [], []
    with tab(browser) as (page, errors):
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: foreign.append(request.url) if is_foreign(request.url, app) else None)
        yield page
        assert dialogs == [] and foreign == []
        assert [error for error in errors if "evil" in error or "pwned" in error] == []


def is_foreign(url: str, app: App) -> bool:
    return not url.startswith((app.url, app.url.replace("http", "ws", 1), "data:", "blob:"))


def check(page: Page) -> None:
    """Nothing acts, and no page has failed."""
    assert page.evaluate("() => window.__pwned") is None
    acting = page.evaluate(
        """() => [...document.querySelectorAll('[data-testid="stApp"] *')].filter((node) =>
            ["SCRIPT", "IFRAME", "OBJECT"].includes(node.tagName) && !node.src?.startsWith(location.origin)
            || [...node.attributes].some((one) => one.name.startsWith("on")
                || ["src", "srcset", "style"].includes(one.name) && one.value.includes("evil")
                || one.name === "href" && /javascript:/i.test(one.value)
            || one.name === "href" && one.value.includes("evil") && !decodeURI(one.value).includes(node.textContent))
        ).map((node) => node.outerHTML.slice(0, 300))"""
    )
    assert acting == []
    assert page.get_by_test_id("stException").count() == 0
    assert page.get_by_text("An unexpected error occurred").count() == 0


def text_of(page: Page) -> str:
    """What the page shows, in single spaces, without what keeps Streamlit from replacing signs."""
    return " ".join(page.locator("body").inner_text().replace("\u2060", "").split())


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
    name = f"{made.name}-{HOSTILE}"
    made.folder.rename(app.runs / name)
    finished_run(app.runs, "other", 3).folder.rename(app.runs / f"20250101-000000-{FILES[2]}")
    return name


@pytest.mark.parametrize("view", ["", "Findings", "Statistics", "Phrases"])
def test_the_dataset_page_shows_names_as_they_are(browser, app: App, data: Path, view: str) -> None:
    with watched(browser, app) as page:
        open_page(page, app, path=str(data), **({"view": view} if view else {}))
        check(page)
        if view == "Statistics":
            page.get_by_role("button", name="Scan all images").click()
            page.locator(".js-plotly-plot").first.wait_for(timeout=60_000)
            wait_until_idle(page)
            check(page)
            assert MARKUP[0][:30] in text_of(page)
        elif not view:
            text = text_of(page)
            assert [name for name in MARKUP[:9] if name not in text] == []
            hover_tooltips(page)
            page.locator(".st-key-split").get_by_role("combobox").or_(page.locator(".st-key-split button")).last.click()
            page.keyboard.press("End")
            page.keyboard.press("Enter")
            wait_until_idle(page)
            text = text_of(page)
            if "of the 17" not in text:
                assert [name for name in FORMATTED[:12] if " ".join(name.split()) not in text] == [], text[:3000]
        else:
            assert (MARKUP[0] in text_of(page)) or view == "Phrases"


def hover_tooltips(page: Page) -> None:
    """Shows the tooltips of the first thumbnails, which are Markdown with their file's name."""
    for number in range(3):
        page.locator(f".st-key-open-{number} button").first.hover()
        page.get_by_test_id("stTooltipContent").first.wait_for(timeout=10_000)
        check(page)


@pytest.mark.parametrize("see", ["Annotations", "What the model sees"])
def test_an_image_with_hostile_objects_is_drawn(browser, app: App, data: Path, see: str) -> None:
    with watched(browser, app) as page:
        open_page(page, app, path=str(data), split="valid", image=f"{HOSTILE}.png", see=see)
        check(page)
        if see == "Annotations":
            assert HOSTILE in text_of(page)
            box = page.locator(".sam3-viewer").bounding_box()
            assert box is not None
            for share in (0.3, 0.5, 0.7):
                page.mouse.move(box["x"] + share * box["width"], box["y"] + share * box["height"])
                check(page)


def test_the_other_pages_show_names_as_they_are(browser, app: App, data: Path, run: str) -> None:
    with watched(browser, app) as page:
        open_page(page, app, path=str(data))
        for name in ("Configure", "Train", "Inference", "Evaluate"):
            page.get_by_test_id("stSidebarNavItems").get_by_role("link", name=name).click()
            page.get_by_role("heading", name=name, exact=True).wait_for(timeout=30_000)
            wait_until_idle(page)
            check(page)
            assert HOSTILE in text_of(page) or name == "Configure"


@pytest.mark.parametrize("details", ["Adapters", "Compare", "All runs", "Log"])
def test_a_run_with_a_hostile_name_is_shown(browser, app: App, run: str, details: str) -> None:
    with watched(browser, app) as page:
        open_page(page, app, "train", run=run, details=details)
        check(page)
        assert HOSTILE in text_of(page)
        if details == "Compare":
            page.get_by_label("Compare with").click()
            page.keyboard.press("Enter")
            wait_until_idle(page)
            check(page)
            assert page.locator(".sam3-live-chart").count() == 2


@pytest.mark.parametrize("view", ["Numbers", "Curves", "Prompt leak", "Worst images", "Thresholds"])
def test_an_evaluation_shows_phrases_as_they_are(browser, app: App, run: str, view: str) -> None:
    with watched(browser, app) as page:
        open_page(page, app, "evaluate", **{"evaluation-view": view})
        check(page)
        text = text_of(page)
        assert HOSTILE in text
        if view == "Curves":
            assert phrase_of(MARKUP[3]) in text and "long long" in text and len(text) < 20_000
        if view in ("Curves", "Prompt leak"):
            page.locator(".js-plotly-plot").first.wait_for(timeout=30_000)
            page.locator(".js-plotly-plot").first.hover()
            check(page)
        with page.expect_download() as download:
            page.get_by_role("button", name="Markdown").click()
        assert "<" not in download.value.suggested_filename and "/" not in download.value.suggested_filename
