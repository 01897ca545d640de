"""The evaluate page as a person uses it, with a predictor whose predictions are known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from streamlit.testing.v1 import AppTest

from sam3_lora.config import RunConfig
from sam3_lora.data.dataset import open_dataset
from sam3_lora.evaluate import EvaluationRequest, Report, read_report
from sam3_lora.evaluate import evaluate as run_evaluation
from sam3_lora.evaluate.report import Difference
from sam3_lora.evaluate.store import save
from sam3_lora.model.adapter_files import taught_phrases
from sam3_lora.runs.run import Run
from sam3_lora.ui.background_job import BackgroundJob
from sam3_lora.ui.evaluate import tables
from sam3_lora.ui.evaluate.history import comparison
from sam3_lora.ui.evaluate.job import evaluation_job, start_evaluation
from sam3_lora.ui.evaluate.worst_images import draw_objects, with_error
from sam3_lora.ui.resources import SharedPredictor
from tests.evaluate.fake_predictor import FakePredictor, no_loss  # noqa: F401
from tests.factories import write_dataset
from tests.ui.helpers import ROOT, new_app, texts
from tests.ui.run_folders import write_adapter

POOR = {"crack": (0.0, 1.0), "pothole": (0.5, 0.5), "joint": (1.0, 0.0)}
GOOD = {"crack": (1.0, 0.0), "pothole": (1.0, 0.0), "joint": (0.0, 0.0), "walrus": (0.0, 1.0)}

pytestmark = pytest.mark.usefixtures("no_loss")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", images=3, objects=3)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: Path) -> AppTest:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("SAM3_LORA_RUNS", str(tmp_path / "runs"))
    split = open_dataset(data).split("valid")

    def predictor(name_or_path: str, adapter: Path | None, **loading: object) -> SharedPredictor:
        return SharedPredictor(FakePredictor(split, POOR, GOOD if adapter else None))

    monkeypatch.setattr("sam3_lora.ui.resources.get_predictor", predictor)
    return new_app()


def make_run(runs: Path) -> Run:
    run = Run.create(RunConfig().with_settings({"output.runs": str(runs), "output.name": "tried"}))
    write_adapter(run, "best")
    return run


def visit(app: AppTest, dataset: Path) -> AppTest:
    app.run().text_input(key="path").set_value(str(dataset)).run()
    app.switch_page("pages/evaluate.py").run()
    assert not app.exception
    return app


def evaluate(app: AppTest) -> None:
    """Presses the button, waits for the thread and draws the page again, as the fragment does in a browser."""
    app.button(key="evaluate").click().run()
    assert evaluation_job().wait(240)
    app.run()
    assert not app.exception and not app.error


def test_an_evaluation_is_run_read_and_handed_on(app: AppTest, tmp_path: Path, data: Path) -> None:
    run = make_run(tmp_path / "runs")
    visit(app, data)
    assert "does not know which phrases it was taught" in texts(app)
    taught_phrases.write(run.folder / "adapters" / "best", ["crack"])
    app.run()
    assert "The adapter answers crack" in texts(app)
    assert "No evaluations yet" in texts(app)
    assert app.selectbox(key="measured_split").value == "valid", "what was not trained on is proposed"
    evaluate(app)
    (path,) = (run.folder / "evaluations").glob("*.json")
    assert app.subheader[0].value.replace("\\", "") == read_report(path).verdict
    assert [tile.label for tile in app.metric] == ["Mask mAP", "F1", "cgF1", "False firing"]
    table = app.dataframe[0].value.set_index("Metric")
    assert table.loc["Mask mAP", "Difference"] == pytest.approx(
        table.loc["Mask mAP", "Adapter"] - table.loc["Mask mAP", "Base"]
    )
    assert table.loc["False firing", "Adapter"] > 0
    assert table.loc["False firing", "Routed"] != table.loc["False firing", "Adapter"], "walrus is the base's"

    for view in ("Curves", "Prompt leak"):
        app.segmented_control(key="evaluation-view").set_value(view).run()
        assert not app.exception
    assert "walrus" not in app.subheader[0].value and "absent phrase" in texts(app) and "**Routed**" in texts(app)
    app.segmented_control(key="evaluation-view").set_value("Worst images").run()
    first = texts(app)
    assert "1 of " in first and "Ground truth" in first
    app.button(key="worst-next").click().run()
    assert "2 of " in texts(app)

    app.segmented_control(key="evaluation-view").set_value("Thresholds").run()
    advised = app.dataframe[0].value.set_index("Phrase")["Threshold"]
    app.button(key="use-thresholds").click().run()
    assert app.session_state["advised_thresholds"] == advised.dropna().to_dict()
    assert "Inference" in [title.value for title in app.title]
    assert app.selectbox(key="adapter").value == f"{run.name}/best", "the adapter that they were measured with"


def test_earlier_results_are_listed_and_shown_again(app: AppTest, tmp_path: Path, data: Path) -> None:
    run = make_run(tmp_path / "runs")
    older = msgspec.structs.replace(made_report(data), made="2026-01-01T10:00:00", verdict="The older one.")
    newer = msgspec.structs.replace(older, made="2026-02-02T10:00:00", verdict="The newer one.")
    for report in (older, newer):
        save(report, run.folder / "evaluations")
    visit(app, data)
    assert app.subheader[0].value == "The newer one."
    assert app.dataframe[-1].value["Verdict"].tolist() == ["The newer one.", "The older one."]
    app.session_state["evaluation-shown"] = f"{run.name}/20260101-100000"
    app.run()
    assert app.subheader[0].value == "The older one."


def test_without_an_adapter_the_base_alone_is_measured(app: AppTest, tmp_path: Path, data: Path) -> None:
    visit(app, data)
    assert "No adapters yet" in texts(app)
    evaluate(app)
    assert "Adapter" not in app.dataframe[0].value
    assert "Base model alone" in texts(app)
    assert list((tmp_path / "runs" / "evaluations").glob("*.json"))


def test_dataset_without_objects_gives_a_sentence(app: AppTest, tmp_path: Path) -> None:
    empty = write_dataset(tmp_path / "empty", images=0)
    visit(app, empty)
    assert "split with annotated objects" in app.error[0].value
    assert not app.button


def made_report(data: Path) -> Report:
    split = open_dataset(data).split("valid")
    request = EvaluationRequest(split, dataset=str(data), base_name="demo", adapter_name="a/best")
    return run_evaluation(FakePredictor(split, POOR, GOOD), request)


def test_a_job_that_is_cancelled_keeps_nothing(data: Path, tmp_path: Path) -> None:
    split = open_dataset(data).split("valid")
    predictor, job = FakePredictor(split, POOR, GOOD), BackgroundJob("evaluation")
    shared = SharedPredictor(predictor)
    request, folder = EvaluationRequest(split, "d", "demo", "a/best"), tmp_path / "kept"
    with shared.lock:  # somebody else uses the model: the job waits for its turn
        assert start_evaluation(job, shared, request, folder)
        assert not start_evaluation(job, shared, request, folder), "one at a time"
        job.cancel()
        assert job.snapshot().state == "stopping"
    assert job.wait(120)
    assert job.snapshot().state == "cancelled" and not folder.exists()
    assert len(predictor.prompts) <= 4


def test_a_job_that_fails_says_so(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM3_LORA_RUNS", str(tmp_path))  # for the app's log
    split, job = open_dataset(data).split("valid"), BackgroundJob("evaluation")
    broken = SimpleNamespace(has_adapter=False)
    start_evaluation(job, SharedPredictor(broken), EvaluationRequest(split, "d", "demo"), tmp_path)
    assert job.wait(120)
    assert job.snapshot().state == "failed" and "failed unexpectedly" in job.snapshot().error


def test_a_difference_counts_only_where_its_interval_says_so() -> None:
    def change(metric: str, change: float, low: float | None, high: float | None, subject: str = "all") -> str:
        return tables.change(Difference(subject, "", metric, 0.5, 0.5 + change, change, low, high))

    assert change("map_segm", 0.2, 0.1, 0.3) == "better"
    assert change("map_segm", -0.2, -0.3, -0.1) == "worse"
    assert change("map_segm", 0.2, -0.1, 0.3) == "unclear"
    assert change("validation_loss", -20, None, None) == "better", "a lower loss is better"
    assert change("map_segm", 0.0001, -0.1, 0.1) == "unchanged"
    assert change("map_segm", 0.2, None, None, "size") == "too few objects"
    assert tables.change(Difference("all", "", "cgf1", None, 0.5, None)) == "undefined"


def test_tables_tiles_and_comparison_hold_the_reports_numbers(data: Path) -> None:
    report = made_report(data)
    tiles = {tile.label: tile for tile in tables.tiles(report)}
    assert tiles["Mask mAP"].value == f"{report.adapter.metrics['map_segm']:.3f}"
    assert tiles["False firing"].color in ("inverse", "off"), "more of it is never green"
    assert tables.table(report, "phrase")["Objects"].sum() == report.objects
    side_by_side = comparison([report, report]).set_index("Metric")
    assert side_by_side.loc["Mask mAP"].tolist() == [round(report.adapter.metrics["map_segm"], 3)] * 2
    assert "walrus" not in tables.leak_summary(report), "it marks no object"


def test_worst_images_are_sorted_by_the_chosen_error_and_drawn_to_scale(data: Path) -> None:
    worst = made_report(data).worst
    for kind in ("fp", "fn", "low_iou"):
        counts = [getattr(one, kind) for one in with_error(worst, kind)]
        assert counts == sorted(counts, reverse=True) and 0 not in counts
    image = next(one for one in worst if one.gt)
    colors = SimpleNamespace(of=lambda phrase: (1, 2, 3))
    height, width = image.size_hw
    for drawn in draw_objects(image.gt, image.size_hw, (2 * height, 3 * width), colors):
        assert drawn.mask.shape == (2 * height, 3 * width)
        rows, columns = drawn.mask.nonzero()
        x0, y0, x1, y1 = drawn.box_xyxy
        assert (columns.min(), rows.min()) == pytest.approx((x0, y0), abs=4)
        assert (columns.max(), rows.max()) == pytest.approx((x1, y1), abs=4)


def test_a_report_that_cannot_be_stored_is_shown_all_the_same(app: AppTest, tmp_path: Path, data: Path) -> None:
    run = make_run(tmp_path / "runs")
    (run.folder / "evaluations").write_text("a file where the folder would be")
    visit(app, data)
    evaluate(app)
    (sentence,) = [box.value for box in app.warning if "only copy" in box.value]
    assert str(run.name) in sentence.replace("\\", "")
    assert len(app.metric) == 4
