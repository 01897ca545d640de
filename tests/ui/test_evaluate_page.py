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
from sam3_lora.evaluate.precision_recall_f1 import BELOW
from sam3_lora.evaluate.report import Difference
from sam3_lora.evaluate.store import save
from sam3_lora.evaluate.text.messages import found_sentence
from sam3_lora.evaluate.verdict import Alert
from sam3_lora.model.adapter_files import taught_phrases
from sam3_lora.runs.run import Run
from sam3_lora.ui import adapters
from sam3_lora.ui.adapters import NONE
from sam3_lora.ui.background_job import BackgroundJob
from sam3_lora.ui.evaluate import remedies, tables
from sam3_lora.ui.evaluate.history import comparison
from sam3_lora.ui.evaluate.job import evaluation_job, start_evaluation
from sam3_lora.ui.evaluate.remedies import changed_settings
from sam3_lora.ui.evaluate.worst_drawing import draw_objects, thumbnail
from sam3_lora.ui.evaluate.worst_images import errors_of, with_error
from sam3_lora.ui.resources import SharedPredictor
from tests.evaluate.fake_predictor import FakePredictor, no_loss  # noqa: F401
from tests.factories import write_dataset
from tests.ui.helpers import ROOT, dataset_page, texts
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
    return dataset_page()


def make_run(runs: Path) -> Run:
    run = Run.create(RunConfig().with_settings({"output.runs": str(runs), "output.name": "tried"}))
    write_adapter(run, "best")
    with run.writing() as writer:
        writer.update(force=True, state="finished")
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
    assert "the adapter answers crack" in texts(app)
    assert "No evaluations yet" in texts(app)
    assert app.selectbox(key="measured_split").value == "valid", "what was not trained on is proposed"
    evaluate(app)
    (path,) = (run.folder / "evaluations").glob("*.json")
    assert app.subheader[0].value == found_sentence(read_report(path))
    assert read_report(path).verdict in texts(app).replace("\\", "")
    assert [tile.label for tile in app.metric] == ["Mask mAP", "F1", "cgF1", "False positive rate"]
    table = app.dataframe[0].value.set_index("Metric")
    assert table.loc["Mask mAP", "Difference"] == pytest.approx(
        table.loc["Mask mAP", "Adapter"] - table.loc["Mask mAP", "Base"]
    )
    assert table.loc["False positive rate", "Adapter"] > 0
    assert table.loc["False positive rate", "Routed"] != table.loc["False positive rate", "Adapter"], (
        "walrus is the base's"
    )

    for view in ("Curves", "Prompt leak"):
        app.segmented_control(key="evaluation-view").set_value(view).run()
        assert not app.exception and len(app.dataframe) == 0, "tables of charts are made when they are opened"
    assert "walrus" not in app.subheader[0].value and "absent phrase" in texts(app) and "**Routed**" in texts(app)
    app.segmented_control(key="evaluation-view").set_value("Worst images").run()
    worst = read_report(path).worst
    opened = [button for button in app.button if button.key.startswith("open-worst-")]
    assert [button.label for button in opened] == [errors_of(image) for image in worst]
    opened[1].click().run()
    assert "Ground truth" in texts(app) and f"2 of {len(worst)}" in texts(app)
    app.button(key="worst-previous").click().run()
    assert app.button(key="worst-previous").disabled and f"1 of {len(worst)}" in texts(app)
    app.session_state["dataset-moved"] = 0.0  # longer ago than a test takes
    app.button(key="worst-dataset").click().run()
    assert "Dataset" in [title.value for title in app.title]
    assert app.session_state["image"] == worst[0].file_name and app.session_state["split"] == "valid"
    app.switch_page("pages/evaluate.py").run()
    app.button(key="worst-close").click().run()
    assert [button.key for button in app.button].count("open-worst-0") == 1

    app.segmented_control(key="evaluation-view").set_value("Thresholds").run()
    advised = app.dataframe[0].value.set_index("Phrase")["Threshold"]
    app.button(key="use-thresholds").click().run()
    assert app.session_state["advised_thresholds"] == {f"{run.name}/best": advised.dropna().to_dict()}
    assert "Inference" in [title.value for title in app.title]
    assert app.selectbox(key="adapter").value == f"{run.name}/best", "the adapter that they were measured with"


def test_earlier_results_are_listed_and_shown_again(app: AppTest, tmp_path: Path, data: Path) -> None:
    run = make_run(tmp_path / "runs")
    older = msgspec.structs.replace(made_report(data), made="2026-01-01T10:00:00", verdict="The older one.")
    newer = msgspec.structs.replace(older, made="2026-02-02T10:00:00", verdict="The newer one.")
    for report in (older, newer):
        save(report, run.folder / "evaluations")
    visit(app, data)
    assert "The newer one." in texts(app) and "The older one." not in texts(app)
    assert app.dataframe[-1].value["Verdict"].tolist() == ["The newer one.", "The older one."]
    app.session_state["evaluation-shown"] = f"{run.name}/20260101-100000"
    app.run()
    assert "The older one." in texts(app)


def test_gain_and_loss_of_several_runs_stand_side_by_side(
    app: AppTest, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(POOR, "line", (0.0, 1.0))  # which the base finds and the adapter does not
    run, other = (make_run(tmp_path / "runs") for _ in range(2))
    card = run.folder / "adapters" / "best" / "README.md"
    card.write_bytes(b"\xff, which is no text")
    earlier = msgspec.structs.replace(made_report(data), adapter_name=f"{other.name}/best", made="2026-01-01T10:00:00")
    save(earlier, other.folder / "evaluations")
    save(msgspec.structs.replace(earlier, split="train"), other.folder / "evaluations")

    visit(app, data).selectbox(key="adapter").set_value(f"{run.name}/best").run()
    app.button_group(key="strengths").set_value([0.5]).run()
    evaluate(app)
    (note,) = [box.value for box in app.info if "model card" in box.value]
    assert "UTF-8" in note
    app.segmented_control(key="evaluation-view").set_value("Gain and loss").run()
    shown = app.dataframe[0].value
    assert shown["Model"].tolist()[:3] == ["Base", "Adapter at strength 0.5", "Adapter"]
    assert shown["Model"].tolist()[3].startswith("1: tried") and len(shown) == 4
    assert shown["Kept"].tolist() == [100, 0, 0, 0]
    assert shown["Gain"].tolist()[1:] == pytest.approx((shown["F1"] - shown["F1"][0]).tolist()[1:])
    assert "not shown: 1 evaluation of other images" in texts(app)

    unmeasured = msgspec.structs.replace(earlier, retention=None, made="2099-01-01T10:00:00")
    path = save(unmeasured, other.folder / "evaluations")
    app.session_state["evaluation-shown"] = f"{other.name}/{path.stem}"
    app.run()
    assert "evaluate the adapter again" in texts(app)
    assert not [table for table in app.dataframe if "Kept" in table.value]


def test_without_an_adapter_the_base_alone_is_measured(
    app: AppTest, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters, "DEMO_FOLDER", tmp_path / "none")
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
    assert tiles["False positive rate"].color in ("inverse", "off"), "more of it is never green"
    assert tables.table(report, "phrase")["Objects"].sum() == report.objects
    curves = tables.curve_table(report, "crack")
    assert [row["Recall"] for row in curves] == pytest.approx([place / 10 for place in range(11)])
    assert curves[-1]["Adapter precision"] == report.adapter.curves["crack"].precision[100]
    (walrus,) = tables.leak_table(report.adapter.leak, [report.adapter.leak.rows.index("walrus")])
    assert walrus["anywhere"] == "100%" and set(walrus) == {"Prompt", "anywhere", *(f"on {c}" for c in POOR)}
    side_by_side = comparison([report, report]).set_index("Metric")
    assert side_by_side.loc["Mask mAP"].tolist() == [round(report.adapter.metrics["map_segm"], 3)] * 2
    assert "walrus" not in tables.leak_summary(report), "it marks no object"


def test_worst_images_are_sorted_by_the_chosen_error_and_drawn_to_scale(data: Path) -> None:
    worst = made_report(data).worst
    for kind in ("fp", "fn", "low_iou"):
        counts = [getattr(one, kind) for one in with_error(worst, kind)]
        assert counts == sorted(counts, reverse=True) and 0 not in counts
    image = next(one for one in worst if one.gt)
    colors = dict.fromkeys(image.phrases, (1, 2, 3))
    height, width = image.size_hw
    for drawn in draw_objects(image.gt, image.size_hw, (2 * height, 3 * width), colors):
        assert drawn.mask.shape == (2 * height, 3 * width)
        rows, columns = drawn.mask.nonzero()
        x0, y0, x1, y1 = drawn.box_xyxy
        assert (columns.min(), rows.min()) == pytest.approx((x0, y0), abs=4)
        assert (columns.max(), rows.max()) == pytest.approx((x1, y1), abs=4)


def test_predictions_below_the_threshold_are_drawn_where_asked_for(data: Path) -> None:
    image = next(one for one in made_report(data).worst if one.gt)
    ghost = msgspec.structs.replace(image.gt[0], outcome=BELOW, score=0.41)
    image = msgspec.structs.replace(image, adapter=[ghost])
    colors = dict.fromkeys(image.phrases, (1, 2, 3))
    (drawn,) = draw_objects([ghost], image.size_hw, image.size_hw, colors)
    assert drawn.style == "dashed" and drawn.score == 0.41
    with_ghost, without = (thumbnail(image, colors, below, None) for below in (True, False))
    assert with_ghost != without
    assert thumbnail(msgspec.structs.replace(image, adapter=[]), colors, True, None) == without


def test_a_report_that_cannot_be_stored_is_shown_all_the_same(app: AppTest, tmp_path: Path, data: Path) -> None:
    run = make_run(tmp_path / "runs")
    (run.folder / "evaluations").write_text("a file where the folder would be")
    visit(app, data)
    evaluate(app)
    (sentence,) = [box.value for box in app.warning if "only copy" in box.value]
    assert str(run.name) in sentence.replace("\\", "")
    assert len(app.metric) == 4


def test_what_helps_changes_the_settings_of_the_next_run() -> None:
    config = RunConfig().with_settings({"replay.source": "own", "replay.weight": 2.0})
    fires = Difference("all", "", "false_firing", 0.0, 0.3, 0.3, 0.2, 0.4)
    changed = {}
    for settings in changed_settings([Alert("forgotten"), Alert("metric", fires)], 0.1, config).values():
        changed |= settings
    assert changed == {
        "replay.weight": 4.0,
        "data.num_negatives": config.data.num_negatives + 3,
        "training.epochs": 2 * config.training.epochs,
    }
    config.with_settings(changed)
    none = config.with_settings({"replay.source": "none"})
    assert list(changed_settings([Alert("forgotten")], 0.9, none).values()) == [{"replay.source": "own"}]
    assert changed_settings([], 0.9, config) == {}


def test_routing_as_a_remedy_prompts_with_it_and_the_adapter_that_was_measured(
    app: AppTest, tmp_path: Path, data: Path, monkeypatch
) -> None:
    monkeypatch.setattr(remedies, "alerts_of", lambda report: [Alert("forgotten")])
    run = make_run(tmp_path / "runs")
    taught_phrases.write(run.folder / "adapters" / "best", ["crack"])
    visit(app, data)
    evaluate(app)
    app.selectbox(key="adapter").set_value(NONE).run()
    app.button(key="route-by-phrase").click().run()
    assert not app.exception and app.title[0].value == "Inference"
    assert app.selectbox(key="adapter").value == f"{run.name}/best" and app.toggle(key="route").value


def test_a_remedy_opens_configure_with_it(app: AppTest, tmp_path: Path, data: Path, monkeypatch) -> None:
    monkeypatch.setattr(remedies, "USABLE_F1", 1.1)
    make_run(tmp_path / "runs")
    visit(app, data)
    evaluate(app)
    before = RunConfig().training.epochs
    app.query_params["evaluation-view"] = "Curves"  # as a browser has it: what is bound to a widget cannot be cleared
    app.button(key="retrain-training.epochs").click().run()
    assert not app.exception and app.title[0].value == "Configure"
    assert app.session_state["run_config"].training.epochs == 2 * before
