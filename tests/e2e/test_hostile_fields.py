"""Every field of every page takes hostile text: nothing in it acts, no page breaks, and the app answers afterwards."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.browser import App, open_page, wait_until_idle
from tests.e2e.hostile_page import FieldWalk, check, each, go_to, watched
from tests.factories import write_dataset
from tests.hostile import CONTROLS, FORMATTED, LONG, MARKUP
from tests.ui.run_folders import finished_run

ALL = " ".join((*MARKUP, *FORMATTED, *CONTROLS))
PATHS = (
    "../../../../etc/passwd",
    "~root/x",
    "~no\0body/x",
    "/dev/zero",
    "//evil.invalid/x",
    "a" * 300,
    "/proc/self/mem",
    "nul\0byte",
    "\\\\host\\share",
)
TEXTS = (LONG, ALL, *PATHS)  # the first once for each page
GATE_TEXTS = ("~no\0body/x", "../../../../etc/passwd", ALL)
NUMBERS = ("-1", "1e308", "99999999999999999999", "0.1e-320", "-0", "")
PAGES = ("Dataset", "Configure", "Train", "Inference", "Evaluate")
QUICK = ("Dataset",)
# Fields on which depends what else a page shows.
LAST = {
    "Dataset": ("Dataset folder", "Image folder, if separate"),
    "Configure": ("Dataset", "Base model"),
    "Train": ("Run",),
    "Inference": ("Folder of images", "Image of the dataset", "Phrases", "Adapter"),
    "Evaluate": ("Adapter",),
}
SOURCES = {"Folder of images": "A folder", "Image of the dataset": "From the dataset"}  # what shows these fields
FIELDS = {"Dataset": 9, "Configure": 50, "Train": 4, "Inference": 5, "Evaluate": 3}  # at least
UPLOADED = {"Configure": 1, "Inference": 1}
PARAMETERS = {
    "Dataset": ("path", "view", "split", "image", "see"),
    "Configure": (),
    "Train": ("run", "details", "compare-with", "run-curves", "run-scale", "run-along", "run-smoothing"),
    "Inference": ("adapter", "on_image", "phrases", "dataset", "ask", "image_source", "image_folder"),
    "Evaluate": ("evaluation", "evaluation-view", "measured_split", "adapter"),
}


def png() -> bytes:
    file = BytesIO()
    Image.new("RGB", (64, 48), (90, 60, 40)).save(file, "PNG")
    return file.getvalue()


UPLOADS = tuple(
    {"name": f"{name}.{end}", "mimeType": "application/octet-stream", "buffer": content}
    for end, name, content in (
        ("zip", "<img src=x onerror=window.__pwned=1>", MARKUP[0].encode()),
        ("yaml", "..\\..\\**b** :smile:", ALL.encode()),
        ("yaml", "a" * 200, b"output: {name: '<img src=x onerror=window.__pwned=1>'}\ndata: {path: '![i](x)'}\n"),
        ("png", "![i](x)", png()),
    )
)


@pytest.fixture(scope="module")
def data(app: App, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset; two runs, so that all pages have what they can show."""
    for name in ("one", "two"):
        finished_run(app.runs, name, 3)
    return write_dataset(tmp_path_factory.mktemp("data"), images=2)


@pytest.mark.timeout(600)  # where the machine has much else to do
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in PAGES]
)
def test_every_field_of_a_page_takes_hostile_text(browser, app: App, data: Path, name: str) -> None:
    with watched(browser, app) as page:
        open_page(page, app, name.lower(), **dict.fromkeys(PARAMETERS[name], MARKUP[0] + FORMATTED[1] + "\u202e/../.."))
        check(page, app)
        open_page(page, app, "dataset", path=str(data))
        if name != "Dataset":
            go_to(page, name)
        walk = FieldWalk(page, app, TEXTS, NUMBERS, LAST[name], UPLOADS)
        walk.everything()
        if name == "Train":
            rename(walk)
        for label in LAST[name]:
            if label in SOURCES:
                each(page, app, (SOURCES[label],), lambda view: None)
            if (name, label) == ("Inference", "Adapter"):  # a hostile one leaves nothing to be pressed
                page.get_by_role("button", name="Prompt", exact=True).click()
                wait_until_idle(page)
                check(page, app)
            walk.fill(label, *GATE_TEXTS)
        assert len(walk.filled) >= FIELDS[name], walk.filled.keys()
        assert len(walk.uploaded) >= UPLOADED.get(name, 0)
        for other in (PAGES[PAGES.index(name) - 1], name):
            go_to(page, other)
            check(page, app)


def rename(walk: FieldWalk) -> None:
    """Gives the run that the page shows a hostile name, in a dialog."""
    page = walk.page
    page.get_by_role("button", name="More", exact=True).click()
    page.get_by_role("button", name="Rename", exact=True).click()
    dialog = page.get_by_test_id("stDialog")
    dialog.get_by_label("Name", exact=True).wait_for(timeout=60_000)
    walk.fill("Name", ALL)
    dialog.get_by_role("button", name="Rename", exact=True).click()
    wait_until_idle(page)
    check(page, walk.app)
