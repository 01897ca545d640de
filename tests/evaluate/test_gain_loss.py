"""Gain and loss of an adapter: points from reports, what is comparable, the picture, and the model card."""

from __future__ import annotations

import errno
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from msgspec.structs import replace

from sam3_lora.cli import evaluate as command
from sam3_lora.config import ASSETS, RunConfig
from sam3_lora.data.dataset import open_dataset
from sam3_lora.errors import RunError
from sam3_lora.evaluate import EvaluationRequest, Report, bootstrap, evaluate, read_report
from sam3_lora.evaluate.gain_loss import card
from sam3_lora.evaluate.gain_loss.card import CARD, PICTURE, write_card
from sam3_lora.evaluate.gain_loss.picture import svg
from sam3_lora.evaluate.gain_loss.points import Kind, LeftOut, Missing, compare, line, measured
from sam3_lora.evaluate.report import Retention, StrengthMetrics
from sam3_lora.evaluate.store import save, to_json, weights_stamp
from sam3_lora.evaluate.text.markdown_report import to_markdown
from sam3_lora.evaluate.text.messages import gain_loss_rows
from sam3_lora.predict.routing import Routing
from sam3_lora.runs.run import Run
from tests.evaluate.fake_predictor import FakePredictor, without_model
from tests.factories import write_dataset
from tests.ui.run_folders import write_adapter

# The base finds lines, of which half a strength keeps all and the adapter none.
BASE, HALF, ADAPTER = (
    {"line": (0.0, 1.0)},
    {"crack": (0.5, 0.0), "line": (0.0, 1.0)},
    {"crack": (1.0, 0.0), "pothole": (1.0, 0.0)},
)


@pytest.fixture(scope="module")
def measured_with(tmp_path_factory: pytest.TempPathFactory):
    split = open_dataset(
        write_dataset(tmp_path_factory.mktemp("data"), ("valid",), images=6, objects=3, empty_images=1)
    ).split("valid")

    def report(adapter: dict | None = ADAPTER, **options) -> tuple[Report, FakePredictor]:
        predictor = FakePredictor(split, BASE, adapter)
        predictor._quality[0.5] = HALF
        request = EvaluationRequest(split, dataset="demo", base_name="demo", adapter_name="a/best", **options)
        with pytest.MonkeyPatch.context() as patch:
            without_model(patch)
            patch.setattr(bootstrap, "RESAMPLES", 5)
            patch.setattr(bootstrap, "MIN_RESAMPLES", 5)
            return evaluate(predictor, request), predictor

    return report


@pytest.fixture(scope="module")
def report(measured_with) -> Report:
    return measured_with(routing=Routing(("crack", "pothole")), strengths=(0.5, 1.0, 0.0))[0]


def test_a_report_becomes_points(report: Report) -> None:
    points = measured(report).points
    assert [(one.kind, one.strength) for one in points] == [
        (Kind.BASE, 0.0),
        (Kind.STRENGTH, 0.5),
        (Kind.ADAPTER, 1.0),
        (Kind.ROUTED, 1.0),
    ]
    base, half, adapter, routed = points
    assert (base.f1, base.gain, base.kept, base.adapter) == (report.base.metrics["f1_50"], 0.0, 1.0, "")
    assert 0 == base.f1 < half.f1 < adapter.f1 == report.adapter.metrics["f1_50"] == routed.f1
    assert [one.gain for one in points] == [one.f1 - base.f1 for one in points]
    assert (half.kept, adapter.kept, routed.kept) == (1.0, 0.0, 1.0)
    assert line(points) == [base, half, adapter]
    assert line([base, adapter, routed]) == [], "nothing was measured in between"


def test_a_strength_is_measured_as_the_adapter_is(measured_with, report: Report) -> None:
    as_adapter = measured_with(HALF)[0]
    (half,) = report.strengths
    assert half.metrics == {name: as_adapter.adapter.metrics[name] for name in half.metrics}
    assert {"f1_50", "cgf1", "false_firing"} <= set(half.metrics)
    assert half.retention == as_adapter.retention


def test_strengths_cost_one_pass_each_and_change_no_other_number(measured_with, report: Report) -> None:
    plain, asked = measured_with(routing=Routing(("crack", "pothole")))
    again, asked_more = measured_with(routing=Routing(("crack", "pothole")), strengths=(0.5,))
    assert plain.strengths == [] and len(asked_more.prompts) == 1.5 * len(asked.prompts)
    for name in ("base", "adapter", "routed", "differences", "retention", "worst", "verdict"):
        assert getattr(plain, name) == getattr(again, name) == getattr(report, name)


def test_the_base_alone_has_no_strengths(measured_with) -> None:
    alone, predictor = measured_with(None, strengths=(0.5,))
    assert alone.strengths == [] and {strength for _, strength, _ in predictor.prompts} == {0.0}
    assert measured(alone).missing is Missing.NO_ADAPTER and measured(alone).points == ()


def test_without_forgetting_there_are_no_points(report: Report) -> None:
    assert measured(replace(report, retention=None)).missing is Missing.NOT_MEASURED
    nothing = replace(report, retention=Retention(0, 0, None, None, {}))
    assert measured(nothing).missing is Missing.NOTHING_FOUND and gain_loss_rows(measured(nothing).points) == []
    undefined = replace(report, base=replace(report.base, metrics=report.base.metrics | {"f1_50": None}))
    assert measured(undefined).missing is Missing.NO_F1


def test_only_what_is_comparable_stands_beside_a_report(report: Report) -> None:
    def other(name: str, **changed):
        return measured(replace(report, adapter_name=name, **changed))

    kinds = ["common" if phrase == "walrus" else kind for phrase, kind in _kinds(report)]
    other_phrases = replace(report.base, leak=replace(report.base.leak, kinds=kinds))
    newer = other("b/best", adapter=replace(report.adapter, metrics=report.adapter.metrics | {"f1_50": 0.25}))
    stored = [
        other("a/best", trained_on=3),  # the adapter that is shown
        newer,
        other("b/best"),
        other("c/last", dataset=str(ASSETS / "demo" / "dataset")),  # which is the same
        other("d/best", dataset="elsewhere"),
        other("d/best", split="train"),
        other("d/best", images=report.images + 1),
        other("e/best", base_name="facebook/sam3"),
        other("f/best", base=other_phrases),
        other("g/best", retention=None),
        other("", adapter=None),  # the base alone
    ]
    both = compare(measured(report), stored)
    assert both.shown == measured(report).points
    assert both.others == (newer.points[1:], stored[3].points[1:])
    assert {point.adapter for points in both.others for point in points} == {"b/best", "c/last"}
    assert dict(both.left_out) == {LeftOut.IMAGES: 3, LeftOut.BASE: 1, LeftOut.PHRASES: 1, LeftOut.MISSING: 1}


def _kinds(report: Report):
    return zip(report.base.leak.rows, report.base.leak.kinds, strict=True)


def test_it_is_stored_and_told_in_every_file(report: Report, tmp_path: Path) -> None:
    assert read_report(save(report, tmp_path)) == report
    points = json.loads(to_json(report))["gain_loss"]
    assert [(one["kind"], one["kept"]) for one in points] == [(one.kind, one.kept) for one in measured(report).points]
    text = to_markdown(report)
    assert "## Gain and loss" in text and "| Adapter at strength 0.5 |" in text
    old = read_report(Path(__file__).parent / "old_report.json")
    assert old.strengths == [] and [one.kind for one in measured(old).points] == [Kind.BASE, Kind.ADAPTER]
    assert "Gain and loss" not in to_markdown(replace(report, retention=None))


def test_the_picture_has_every_point_inside(report: Report) -> None:
    points = measured(replace(report, strengths=[*report.strengths, _strength(2.0, 1.0, 0)])).points
    root = ET.fromstring(svg(points))
    width, height = float(root.get("width")), float(root.get("height"))
    space = "{http://www.w3.org/2000/svg}"
    circles = [(float(one.get("cx")), float(one.get("cy"))) for one in root.iter(f"{space}circle")]
    assert len(circles) == 4 and all(0 < x < width and 0 < y < height for x, y in circles)
    base, *_, adapter, strong = circles
    assert adapter[0] > base[0] and adapter[1] > base[1], "more is to the right, less is kept below"
    assert strong[0] > adapter[0], "F1 is higher"
    assert {"Base", "Adapter", "Routed", "0.5", "2"} <= {one.text for one in root.iter(f"{space}text")}


def test_the_command_prints_and_writes_the_same_numbers(
    report: Report, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run.adapters()["best"]
    report = replace(report, adapter_folder=str(folder), weights_stamp=weights_stamp(folder))
    command._print(report, [])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for name, *values in gain_loss_rows(measured(report).points):
        assert [*name.split(), *values] in lines
    stored, written, problem = command._write(report, run.folder / "evaluations", None)
    assert written == [stored, folder / CARD] and problem is None
    command._print(replace(report, retention=Retention(0, 0, None, None, {})), [])
    assert "--retention-phrase" in capsys.readouterr().out

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(card, "atomic_write", refuse)
    stored, written, problem = command._write(report, run.folder / "evaluations", None)
    assert written == [stored] and problem is None, "it is measured and stored all the same"
    assert len(capsys.readouterr().err.splitlines()) == 1


def _strength(strength: float, f1: float, kept: int) -> StrengthMetrics:
    return StrengthMetrics(strength, {"f1_50": f1}, Retention(10, kept, None, None, {}))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.create(RunConfig().with_settings({"output.runs": str(tmp_path)}))
    folder = write_adapter(run, "best")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / CARD).write_text("---\nlibrary_name: peft\n---\n\n# a\n\n## Settings\n\n```yaml\n## Evaluation\n```\n")
    with run.writing() as writer:
        writer.update(force=True, state="finished")
    return run


def test_the_card_gets_one_section_before_the_settings_and_nothing_else_changes(report: Report, run: Run) -> None:
    folder = run.adapters()["best"]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    report = replace(report, weights_stamp=weights_stamp(folder))
    report = replace(report, adapter_folder=str(folder), dataset="/data/<b>my_data</b>", verdict="# Not *bold*")
    assert write_card(report) == folder / CARD
    first = (folder / CARD).read_text()
    head, section = first.split("\n## Evaluation\n", 1)
    section, rest = section.split("\n## Settings\n", 1)
    assert head + "\n## Settings\n" + rest == before[CARD].decode()
    assert section.count("\n| ") == 2 + len(measured(report).points) and f"({PICTURE})" in section
    assert "/data" not in section and "<b>" not in section and "*bold" not in section.replace(r"\*bold", "")
    assert (folder / PICTURE).read_text() == svg(measured(report).points)
    write_card(replace(report, strengths=[], verdict="Another one."))
    second = (folder / CARD).read_text()
    assert second.count("\n**Another one.**\n") == 1 and "Not" not in second and "strength" not in second
    write_card(report)
    assert (folder / CARD).read_text() == first
    write_card(replace(report, retention=None))
    assert not (folder / PICTURE).exists() and PICTURE not in (folder / CARD).read_text(), "nothing to draw"
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {**after, CARD: b""} == {**before, CARD: b""}


def test_a_card_is_left_alone_where_its_adapter_may_be_another(report: Report, run: Run, tmp_path: Path) -> None:
    folder = run.adapters()["best"]
    report = replace(report, adapter_folder=str(folder), weights_stamp=weights_stamp(folder))
    text = (folder / CARD).read_text()
    with run.writing() as writer:
        writer.update(force=True, state="running")
        with pytest.raises(RunError, match="being trained"):
            write_card(report)
        writer.update(force=True, state="finished")
    with pytest.raises(RunError, match="replaced"):
        write_card(replace(report, weights_stamp=report.weights_stamp - 1))
    (folder / CARD).write_bytes(b"\xff")
    with pytest.raises(RunError, match="UTF-8"):
        write_card(report)
    (folder / CARD).write_text(text)
    outside = tmp_path / "mine"
    outside.mkdir()
    (outside / CARD).write_text(text)
    assert write_card(replace(report, adapter_folder=str(outside))) is None, "a folder of the user's own"
    assert write_card(replace(report, adapter_folder=None)) is None
    assert (outside / CARD).read_text() == (folder / CARD).read_text() == text
    (folder / CARD).unlink()
    assert write_card(report) is None and not (folder / PICTURE).exists()
