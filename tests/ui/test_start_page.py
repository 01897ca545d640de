"""The start page: what a first visit shows, what comes next in each situation, and what is remembered."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam3_lora.monitor.run_verdict import USABLE_F1
from sam3_lora.runs.metrics import f1_after
from sam3_lora.runs.run import Run, Status
from sam3_lora.runs.samples import read_samples, write_sample
from sam3_lora.ui.preferences import CONFIG_VARIABLE, RecentDataset, load_preferences, remember_dataset
from sam3_lora.ui.start import pictures
from sam3_lora.ui.start.situation import RunFacts, Situation, next_step
from sam3_lora.ui.start.steps import states
from tests.factories import write_dataset
from tests.ui.helpers import ROOT, boxes, dataset_page, new_app, texts
from tests.ui.run_folders import finished_run

DATASET = RecentDataset("/data/cracks", 10, 20, ("crack",), 1, errors=0)
GOOD, BAD = {"adapter": "best", "f1": 0.7}, {"adapter": "best", "f1": USABLE_F1 / 2}
FACTS = RunFacts(Run(Path("/runs/a")), Status(), "/data/cracks", None, None, evaluated=False, resumable=False)


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAM3_LORA_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "config"))
    return tmp_path / "runs"


def run_with(state: str = "finished", **facts: object) -> RunFacts:
    return replace(FACTS, status=Status(state=state), **facts)


def situation(*of_runs: RunFacts, errors: int = 0) -> Situation:
    known = RecentDataset("/data/cracks", 10, 20, ("crack",), 1, errors=errors)
    return Situation("/data/cracks", known, of_runs)


@pytest.mark.parametrize(
    ("now", "kind"),
    [
        (Situation("demo", None), "open-dataset"),
        (Situation("demo", None, (run_with(**GOOD),), knows_datasets=True), "open-dataset"),
        (situation(), "train"),
        (situation(errors=2), "fix-dataset"),
        (situation(run_with("running")), "watch"),
        (situation(run_with("failed")), "read-log"),
        (situation(run_with("crashed", resumable=True)), "resume"),
        (situation(run_with("crashed")), "train"),
        (situation(run_with("stopped")), "train"),
        (situation(run_with("stopped", resumable=True)), "resume"),
        (situation(run_with("stopped", resumable=True, **BAD)), "resume"),
        (situation(run_with("stopped", resumable=True, **GOOD)), "evaluate"),
        (situation(run_with(**BAD)), "improve"),
        (situation(run_with(**GOOD)), "evaluate"),
        (situation(run_with(**GOOD), errors=2), "evaluate"),
        (situation(run_with(adapter="last")), "evaluate"),
        (situation(run_with(**GOOD, evaluated=True)), "try-adapter"),
        (situation(run_with(**GOOD, dataset="/data/other")), "train"),
        (situation(run_with("running", dataset="/data/other"), run_with(**GOOD)), "watch"),
    ],
)
def test_each_situation_has_its_next_step(now: Situation, kind: str) -> None:
    assert next_step(now).kind == kind


def test_the_best_run_is_that_of_the_open_dataset_with_the_highest_f1() -> None:
    other = run_with(**{**GOOD, "f1": 0.9}, dataset="/data/other")
    now = situation(other, run_with(**BAD), run_with(**GOOD), run_with(adapter="last"))
    assert now.best == run_with(**GOOD)
    assert next_step(now).run == now.best


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (Situation("demo", None), ("now", "later", "later")),
        (situation(), ("done", "now", "later")),
        (situation(run_with("running")), ("done", "now", "later")),
        (situation(run_with(**GOOD)), ("done", "done", "now")),
        (situation(run_with(**GOOD, evaluated=True)), ("done", "done", "done")),
    ],
)
def test_the_steps_follow_what_is_there(now: Situation, expected: tuple[str, ...]) -> None:
    assert states(now) == expected


def test_recent_datasets_are_kept_once_each_the_last_first_and_few() -> None:
    for number in (1, 2, 3, 4, 5, 6, 7, 2):
        remember_dataset(replace_path(DATASET, f"/data/{number}"))
    paths = [each.path for each in load_preferences().datasets]
    assert paths[0] == "/data/2" and len(paths) == len(set(paths)) == 6 and "/data/1" not in paths
    before = load_preferences()
    remember_dataset(replace_path(DATASET, "/data/2"))
    assert load_preferences() == before, "nothing is written where nothing has changed"


def replace_path(dataset: RecentDataset, path: str) -> RecentDataset:
    return RecentDataset(path, dataset.images, dataset.objects, dataset.categories, dataset.num_categories, 0)


def test_f1_is_that_of_the_best_adapters_validation(runs: Path) -> None:
    metrics = finished_run(runs, steps=12).folder / "metrics.jsonl"
    assert f1_after(metrics, 12) == 0.5
    assert f1_after(metrics, 11) is None and f1_after(runs / "nowhere", 12) is None


def test_the_pictures_that_ship_say_what_they_show() -> None:
    facts = pictures.read_facts()
    assert len(facts.objects) >= 2
    for name in (pictures.BEFORE, pictures.AFTER):
        assert 10_000 < (pictures.FOLDER / name).stat().st_size < 200_000


def test_the_first_visit_offers_the_demo_which_answers_and_is_remembered_once_its_data_is_seen() -> None:
    app = new_app().run()
    assert not app.exception and not boxes(app)
    assert [button.key for button in app.button] == ["try-demo", "open-folder"]
    app.button(key="try-demo").click().run()
    assert not app.exception and app.title[0].value == "Inference" and app.dataframe[0].value["Adapter: objects"].sum()
    assert app.session_state["dataset_path"] == "demo"
    app.switch_page("pages/dataset.py").run()
    again = new_app().run()
    assert again.button(key="recent-dataset-0").label == "Demo"
    again.button(key="recent-dataset-0").click().run()
    assert again.title[0].value == "Dataset" and not again.exception


def test_a_recent_dataset_opens_as_it_was_read(tmp_path: Path) -> None:
    data, photos = write_dataset(tmp_path / "data", splits=("train",)), tmp_path / "photos"
    photos.mkdir()
    for image in (data / "train").glob("*.[jp]*g"):
        image.rename(photos / image.name)
    app = dataset_page().run()
    app.text_input(key="path").set_value(str(data)).run()
    app.text_input(key="read-images").set_value(str(photos)).run()
    again = new_app().run()
    again.button(key="recent-dataset-0").click().run()
    assert again.text_input(key="read-images").value == str(photos) and not boxes(again)


def test_with_runs_it_says_what_is_best_and_opens_a_run(runs: Path) -> None:
    run = finished_run(runs)
    app = new_app().run()
    assert not app.exception and [metric.value for metric in app.metric] == ["0.50"]
    assert "F1 0.50" in texts(app)
    app.button(key="recent-run-0").click().run()
    assert app.title[0].value == "Train" and app.query_params["run"] == run.name


def test_a_link_to_the_dataset_page_from_when_it_was_the_first_still_opens_it() -> None:
    app = new_app()
    app.query_params["path"] = "demo"
    app.run()
    assert app.title[0].value == "Dataset" and app.text_input(key="path").value == "demo"


@pytest.mark.parametrize(
    ("step", "expected"),
    [(None, (0, 3)), (10, (0, 2)), (9, None)],
    ids=["the last", "that of the adapter", "before the first validation"],
)
def test_the_slider_shows_the_image_that_the_run_has_learned_most_on(
    tmp_path: Path, step: int | None, expected: tuple[int, int] | None
) -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    found = {0: (0, 0, 1), 10: (1, 2, 9), 20: (1, 3, 1)}  # step -> predictions on three images of three objects
    for at, counts in found.items():
        for place, count in enumerate(counts):
            write_sample(tmp_path, at, place, f"{place}.png", picture, count, 3)
    pair = pictures.learned(read_samples(tmp_path), step)
    assert (pair and tuple(each.found for each in pair)) == expected


def test_the_first_screen_waits_for_no_large_library(tmp_path: Path) -> None:
    code = """
import sys
from sam3_lora.ui import resources
from sam3_lora.ui.access import AccessGuard
from tests.ui.helpers import ROOT, new_app
AccessGuard.in_use = True
resources.import_model_libraries = lambda: None  # in the background
app = new_app().run()
assert app.title[0].value and not app.exception
print(*{"torch", "transformers", "peft", "cv2", "pandas", "pyarrow", "pycocotools"} & sys.modules.keys())
"""
    environment = {**os.environ, "SAM3_LORA_RUNS": str(tmp_path), "SAM3_LORA_CONFIG": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
