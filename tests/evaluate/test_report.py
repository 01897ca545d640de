"""A whole evaluation with a predictor that knows the ground truth: its report, its end, where it is stored."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from msgspec.structs import replace

from sam3_lora.config import RunConfig
from sam3_lora.data.dataset import open_dataset
from sam3_lora.errors import DataError
from sam3_lora.evaluate import EvaluationRequest, Report, evaluate, read_report
from sam3_lora.evaluate.cgf1 import NO_NEGATIVES
from sam3_lora.evaluate.object_counts import count_objects, total
from sam3_lora.evaluate.predictions import phrases_of
from sam3_lora.evaluate.store import folder_of, run_of, save, stored_reports, to_json
from sam3_lora.evaluate.text.markdown_report import to_markdown
from sam3_lora.evaluate.text.messages import found_by_phrase, found_sentence, reason
from sam3_lora.evaluate.verdict import alerts_of
from sam3_lora.markdown import escape
from sam3_lora.runs.run import Run
from tests.evaluate.fake_predictor import FakePredictor, predicted, without_model
from tests.evaluate.helpers import coco_map, concept_f1
from tests.factories import coco, write_dataset, write_split

POOR = {"crack": (0.0, 0.5), "pothole": (0.0, 0.5), "joint": (1.0, 0.0), "line": (0.0, 1.0)}
GOOD = {"crack": (1.0, 0.0), "pothole": (1.0, 0.0), "joint": (0.0, 0.0), "walrus": (0.0, 1.0)}

pytestmark = pytest.mark.usefixtures("no_loss")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory):
    folder = write_dataset(tmp_path_factory.mktemp("data"), ("valid",), images=8, objects=3, empty_images=2)
    return open_dataset(folder).split("valid")


def evaluated(split, adapter=GOOD, **options) -> Report:
    return evaluate(FakePredictor(split, POOR, adapter), requested(split, **options))


def requested(split, **options) -> EvaluationRequest:
    return EvaluationRequest(split, dataset="made up", base_name="demo", **options)


@pytest.fixture(scope="module")
def report(split) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        without_model(patch)
        return evaluated(split, adapter_name="run/best")


def test_gains_and_losses_are_distinguished(report: Report) -> None:
    assert report.adapter.metrics["map_segm"] > report.base.metrics["map_segm"]
    assert report.adapter.phrases["crack"]["f1"] == report.adapter.phrases["pothole"]["f1"] == 1
    assert report.adapter.phrases["joint"]["recall"] == 0
    by_kind = {alert.kind: alert for alert in alerts_of(report)}
    assert by_kind["phrase"].difference.name == "joint"
    assert by_kind["forgotten"].retention == report.retention
    assert report.retention.by_phrase["line"] == [10, 0]
    assert report.retention.found == 10 and report.retention.kept == 0
    assert report.verdict.startswith("Mixed")
    assert "Only 10 images" in report.notes[0]


def test_found_objects_and_false_alarms_are_counted_for_each_phrase(report: Report) -> None:
    counts = {one.phrase: one for one in count_objects(report)}
    for phrase, one in counts.items():
        values = report.adapter.phrases[phrase]
        assert (one.objects, one.found) == (report.phrases[phrase].objects, values["tp"])
        assert one.found == round(values["recall"] * one.objects)
        assert one.false_positives == values["predicted"] - values["tp"] >= 0
        assert one.base_found == report.base.phrases[phrase]["tp"]
    whole = total(report)
    assert whole.objects == report.objects == sum(one.objects for one in counts.values())
    assert f"finds {whole.found} of {whole.objects} objects" in found_sentence(report)
    assert f"crack {counts['crack'].found} of {counts['crack'].objects}" in found_by_phrase(report)


def test_a_report_of_an_earlier_version_has_no_false_alarms(report: Report) -> None:
    old = {
        phrase: {k: v for k, v in each.items() if k not in ("tp", "predicted")}
        for phrase, each in report.adapter.phrases.items()
    }
    earlier = replace(report, adapter=replace(report.adapter, phrases=old))
    assert total(earlier).false_positives is None and total(earlier).found == total(report).found
    assert "false alarm" not in found_sentence(earlier)


def test_intervals_hold_the_differences(report: Report) -> None:
    known = [one for one in report.differences if one.low is not None]
    assert {one.subject for one in known} == {"all", "phrase", "size"}
    assert all(one.low <= one.difference <= one.high for one in known)


def test_one_image_resampled_decides_nothing(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, ("valid",), images=1, objects=3, empty_images=0)
    report = evaluated(open_dataset(folder).split("valid"))
    assert all(one.low is None for one in report.differences)
    assert report.verdict.startswith("Not decided") and "1 image is too few" in report.verdict
    assert report.retention.low is None


def test_a_phrase_called_as_a_size_keeps_its_interval(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, ("valid",), images=8, objects=3, empty_images=2, categories=("large", "pothole"))
    report = evaluated(open_dataset(folder).split("valid"), adapter={"large": (1.0, 0.0), "pothole": (1.0, 0.0)})
    assert report.sizes["large"] == 0
    assert all(one.low is not None for one in report.differences if one.subject == "phrase")


def test_unrelated_phrases_show_the_leak(report: Report) -> None:
    leak = report.adapter.leak
    assert leak.anywhere[leak.rows.index("walrus")] == 1
    assert report.base.leak.anywhere[leak.rows.index("walrus")] == 0
    assert report.adapter.metrics["false_firing"] > 0


def test_phrases_with_true_positives_have_a_best_threshold(report: Report) -> None:
    assert set(report.best_thresholds()) == {"crack", "pothole"}


def test_the_base_alone_is_measured_without_differences(split) -> None:
    alone = evaluated(split, adapter=None)
    assert alone.adapter is None and alone.differences == [] and alone.retention is None
    assert "no adapter to compare with" in alone.verdict
    assert alone.best_thresholds(), "those of the base"


def test_category_and_retention_phrases_are_prompted(tmp_path: Path) -> None:
    split = open_dataset(write_dataset(tmp_path, ("valid",), images=2, objects=1, empty_images=0)).split("valid")
    predictor = FakePredictor(split, {})
    request = requested(split, category_phrases={"crack": "long line"}, retention_phrases=("Traffic  Cone",))
    report = evaluate(predictor, request)
    prompted = {phrase for *_, phrases in predictor.prompts for phrase in phrases}
    assert "long line" in prompted and "crack" not in prompted
    assert "traffic cone" in prompted
    assert "line" not in prompted, "it could mean the long line"
    assert report.phrases["long line"].categories == ["crack"]


def test_without_negatives_the_reason_is_given(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, ("valid",), images=3, objects=1, empty_images=0, categories=("crack",))
    report = evaluated(open_dataset(folder).split("valid"))
    assert report.not_defined == {"il_mcc": NO_NEGATIVES, "cgf1": NO_NEGATIVES}
    assert report.adapter.metrics["cgf1"] is None
    assert reason(NO_NEGATIVES) in to_markdown(report)


def test_one_image_without_objects_does_not_decide_about_presence(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, ("valid",), images=6, objects=1, empty_images=1, categories=("crack",))
    report = evaluated(open_dataset(folder).split("valid"))
    by_name = {one.metric: one for one in report.differences if one.subject == "all"}
    assert by_name["cgf1"].difference is not None and by_name["cgf1"].low is None
    assert by_name["map_segm"].low is not None
    assert not [alert for alert in alerts_of(report) if alert.difference and alert.difference.metric == "cgf1"]


def test_a_broken_image_is_left_out_with_a_note(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, ("valid",), images=3, objects=1, empty_images=0)
    split = open_dataset(folder).split("valid")
    predictor = FakePredictor(split, POOR, GOOD)
    split.images[1].path.write_bytes(b"no image")
    report = evaluate(predictor, requested(split))
    assert report.images == 2
    assert any(split.images[1].file_name in note for note in report.notes)


def test_nothing_readable_is_refused(tmp_path: Path) -> None:
    split = open_dataset(write_dataset(tmp_path, ("valid",), images=1, objects=1, empty_images=0)).split("valid")
    predictor = FakePredictor(split, POOR)
    split.images[0].path.write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot be read"):
        evaluate(predictor, requested(split))


def test_it_can_be_cancelled_and_leaves_the_predictor_as_it_was(split) -> None:
    predictor = FakePredictor(split, POOR, GOOD)
    predictor.strength = 0.7
    shares: list[float] = []

    def progress(share: float, _: str) -> None:
        shares.append(share)
        if len(shares) > 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        evaluate(predictor, requested(split), progress=progress)
    assert predictor.strength == 0.7
    assert shares == sorted(shares)


def test_others_may_use_the_predictor_between_two_images(split) -> None:
    lock = MagicMock()
    evaluate(FakePredictor(split, POOR, GOOD), requested(split), lock=lock)
    assert lock.__enter__.call_count == 2 * len(split.images), "once for the base and once for the adapter per image"


def test_a_report_is_the_same_after_storing(report: Report, tmp_path: Path) -> None:
    path = save(report, tmp_path / "evaluations")
    again = save(report, tmp_path / "evaluations")
    assert path != again, "none is overwritten"
    assert read_report(path) == report
    assert {one.path for one in stored_reports([tmp_path])} == {path, again}
    path.write_text("{}")
    with pytest.raises(DataError, match="cannot be read"):
        read_report(path)
    assert [one.path for one in stored_reports([tmp_path])] == [again], "a damaged file hides no other"


def test_evaluations_are_stored_in_the_run_of_their_adapter(report: Report, tmp_path: Path) -> None:
    settings = {"output.runs": str(tmp_path), "data.category_phrases": {"crack": "long crack"}}
    run = Run.create(RunConfig().with_settings(settings))
    adapter = run.folder / "adapters" / "best"
    assert folder_of(adapter, tmp_path) == run.folder / "evaluations"
    assert folder_of(tmp_path / "elsewhere", tmp_path) == folder_of(None, tmp_path) == tmp_path / "evaluations"
    found = run_of(adapter)
    assert found and found.config.data.category_phrases == {"crack": "long crack"} and run_of(tmp_path) is None
    save(report, run.folder / "evaluations")
    (one,) = stored_reports([tmp_path])
    assert one.run == run.name and one.summary.verdict == report.verdict


def test_json_and_markdown_hold_the_verdict(report: Report) -> None:
    whole = json.loads(to_json(report))
    assert whole["verdict"] == report.verdict
    text = to_markdown(report)
    assert escape(report.verdict) in text and f"**{escape(found_sentence(report))}**" in text
    for heading in (
        "Got worse",
        "Metrics",
        "By phrase",
        "By object size",
        "Prompt leak",
        "Best score thresholds",
        "Worst",
    ):
        assert f"## {heading}" in text


def test_a_dataset_of_boxes_is_judged_by_boxes(tmp_path: Path) -> None:
    write_split(tmp_path / "valid", coco(images=3, kinds=("box",), empty_images=0))
    report = evaluated(open_dataset(tmp_path).split("valid"))
    assert report.boxes_only and report.main_metric == "map_bbox"
    assert "box mAP" in report.verdict


def test_one_model_alone_is_measured_like_beside_another(split, report: Report) -> None:
    predictor = FakePredictor(split, POOR, GOOD)
    for strength, numbers in ((0.0, report.base), (1.0, report.adapter)):
        predictor.strength = strength
        phrases = phrases_of(split)
        results = [one for image in split.images for one in predicted(predictor, image, phrases).results]
        alone = coco_map(results) | concept_f1(results)
        assert alone == pytest.approx({name: numbers.metrics[name] for name in alone})


def test_a_report_of_an_earlier_version_opens() -> None:
    """Written by the version before; its outcomes and some of its keys had other names."""
    report = read_report(Path(__file__).parent / "old_report.json")
    assert report.verdict.startswith("Mixed") and report.category_phrases == {}
    assert (report.retention.found, report.retention.kept, report.retention.by_phrase) == (7, 0, {"line": [7, 0]})
    assert [alert.kind for alert in alerts_of(report)] == ["metric", "phrase", "forgotten"]
    outcomes = {shown.outcome for image in report.worst for shown in (*image.gt, *image.base, *image.adapter)}
    assert outcomes == {"tp", "fp", "fn"}
    for image in report.worst:
        assert image.fn == sum(shown.outcome == "fn" for shown in image.gt)
        assert image.fp == sum(shown.outcome == "fp" for shown in image.adapter)
    assert "every image holds every phrase" in to_markdown(report)
