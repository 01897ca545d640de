"""The adapter measured routed by phrase: numbers of one model or the other, without asking either again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sam3_lora.cli.evaluate import _as_json
from sam3_lora.data.dataset import open_dataset
from sam3_lora.evaluate import EvaluationRequest, Report, bootstrap, evaluate, read_report
from sam3_lora.evaluate.predictions import routed
from sam3_lora.evaluate.store import save
from sam3_lora.evaluate.text.markdown_report import to_markdown
from sam3_lora.evaluate.text.messages import changes, kept_sentence, routed_sentence, routed_value
from sam3_lora.markdown import escape
from sam3_lora.predict.routing import Routing
from sam3_lora.ui.evaluate.tables import table
from tests.evaluate.fake_predictor import FakePredictor, without_model
from tests.evaluate.helpers import image_predictions, prompt_result
from tests.factories import write_dataset

# The adapter knows cracks and potholes, has forgotten joints and lines, and fires on a word that is nowhere.
BASE = {"crack": (0.0, 0.5), "pothole": (0.0, 0.5), "joint": (1.0, 0.0), "line": (0.0, 1.0)}
ADAPTER = {"crack": (1.0, 0.0), "pothole": (1.0, 0.0), "walrus": (0.0, 1.0)}
Measure = Callable[..., tuple[Report, FakePredictor]]


@pytest.fixture(scope="module")
def measure(tmp_path_factory: pytest.TempPathFactory) -> Measure:
    folder = write_dataset(tmp_path_factory.mktemp("data"), ("valid",), images=6, objects=3, empty_images=1)
    split = open_dataset(folder).split("valid")

    def measured(routing: Routing | None, adapter: dict | None = ADAPTER) -> tuple[Report, FakePredictor]:
        predictor = FakePredictor(split, BASE, adapter)
        request = EvaluationRequest(split, dataset="made up", base_name="demo", adapter_name="a", routing=routing)
        with pytest.MonkeyPatch.context() as patch:
            without_model(patch)
            patch.setattr(bootstrap, "RESAMPLES", 5)
            patch.setattr(bootstrap, "MIN_RESAMPLES", 5)
            return evaluate(predictor, request), predictor

    return measured


@pytest.fixture(scope="module")
def report(measure: Measure) -> Report:
    return measure(Routing(("crack", "Potholes")))[0]


def test_an_image_is_answered_phrase_by_phrase() -> None:
    base, adapter = (
        image_predictions(
            [prompt_result(scores=[score]), prompt_result(phrase="joint", scores=[score])],
            [prompt_result(phrase="car", scores=[score]), prompt_result(phrase="cracks", scores=[score])],
        )
        for score in (0.1, 0.9)
    )
    both = routed(base, adapter, {"crack", "cracks"})
    assert both.results == [adapter.results[0], base.results[1]]
    assert both.extra == [base.extra[0], adapter.extra[1]]
    assert both.image is base.image and both.known is base.known
    assert routed(base, adapter, ()) == base


def test_every_number_of_a_phrase_is_that_of_the_model_that_answers(report: Report) -> None:
    assert report.taught == ["crack", "potholes"]
    for phrase, numbers in report.routed.phrases.items():
        answering = report.base if phrase == "joint" else report.adapter
        assert numbers == answering.phrases[phrase]
        assert report.routed.thresholds[phrase] == answering.thresholds[phrase]
    leaks = (report.routed.leak, report.base.leak, report.adapter.leak)
    for row, phrase in enumerate(report.routed.leak.rows):
        answering = leaks[2] if phrase in ("crack", "pothole") else leaks[1]
        assert (leaks[0].on_objects[row], leaks[0].anywhere[row]) == (
            answering.on_objects[row],
            answering.anywhere[row],
        )


def test_what_the_base_knows_and_refuses_stays(report: Report) -> None:
    assert report.retention.kept < report.retention.found == report.routed_retention.found
    assert report.routed_retention.kept == report.retention.found
    assert report.routed.metrics["false_firing"] == 0 < report.adapter.metrics["false_firing"]
    for name in ("map_segm", "cgf1", "f1_50"):
        assert report.routed.metrics[name] > max(report.adapter.metrics[name], report.base.metrics[name])
    assert report.routed.metrics["validation_loss"] is None, "not known by phrase"


def test_nothing_is_asked_again_and_the_other_numbers_are_the_same(measure: Measure, report: Report) -> None:
    plain, asked = measure(None)
    again, asked_routed = measure(Routing(("crack", "Potholes")))
    assert asked.prompts == asked_routed.prompts
    assert (plain.routed, plain.routed_retention, plain.taught) == (None, None, [])
    for name in ("base", "adapter", "differences", "retention", "worst", "verdict"):
        assert getattr(plain, name) == getattr(again, name)


def test_the_base_alone_is_not_routed(measure: Measure) -> None:
    report, _ = measure(Routing(("crack",)), adapter=None)
    assert report.adapter is report.routed is report.routed_retention is None and report.taught == []


def test_it_is_stored_printed_and_shown(report: Report, tmp_path: Path) -> None:
    assert read_report(save(report, tmp_path)) == report
    printed = _as_json(report, None)
    assert printed["routed"] == report.routed.metrics and set(printed["details"]) == {"base", "adapter", "routed"}
    assert printed["routed_kept"]["kept"] == report.routed_retention.kept
    json.dumps(printed)
    text = to_markdown(report)
    assert "| Base | Adapter | Routed | Difference |" in text and "Routed finds" in text
    assert escape(routed_sentence(report)) in text and kept_sentence(report) in text
    shown = table(report, "all").set_index("Metric")
    assert shown["Routed"].dropna().tolist() == [v for v in report.routed.metrics.values() if v is not None]
    by_phrase = {one.name: routed_value(report, one) for one in changes(report, "phrase")}
    assert by_phrase == {"crack": 1.0, "joint": 1.0, "pothole": 1.0}


def test_a_report_without_it_shows_no_empty_column(measure: Measure) -> None:
    plain, _ = measure(None)
    assert "Routed" not in to_markdown(plain) and "Routed" not in table(plain, "all").columns
    assert "routed" not in _as_json(plain, None)
