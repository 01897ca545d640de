"""The evaluate page as a person uses it, and what its numbers are called in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from streamlit.testing.v1 import AppTest

from sam3_lora.config import RunConfig
from sam3_lora.data.coco import open_dataset
from sam3_lora.model import lora
from sam3_lora.model.base import load_base
from sam3_lora.train.run import Run
from sam3_lora.ui import measures
from sam3_lora.ui.measures import METRICS, Measured
from tests.factories import write_dataset

ROOT = Path(__file__).resolve().parent.parent.parent
NUMBERS = dict.fromkeys(METRICS, 0.5) | {"cgf1": None, "il_mcc": None, "validation_loss": 200.0}
BETTER = NUMBERS | {"map_segm": 0.75, "map_bbox": 0.25, "validation_loss": 100.0}


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AppTest:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("SAM3_LORA_RUNS", str(tmp_path / "runs"))
    return AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)


def visit(app: AppTest, dataset: Path) -> AppTest:
    app.run().text_input(key="path").set_value(str(dataset)).run()
    app.switch_page("pages/evaluate.py").run()
    assert not app.exception
    return app


def text_on(app: AppTest) -> str:
    return "\n".join(element.value for element in [*app.markdown, *app.caption, *app.subheader]).replace("\\", "")


def save_adapter(runs: Path) -> None:
    config = RunConfig().with_settings({"output.runs": str(runs), "output.name": "tried"})
    model = lora.attach(load_base("demo").model, config.lora)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(parameter, 0.05)
    lora.save(model, Run.create(config).folder / "adapters" / "last", "demo")


def test_base_and_adapter_stand_side_by_side(app: AppTest, tmp_path: Path) -> None:
    save_adapter(tmp_path / "runs")
    data = write_dataset(tmp_path / "data", images=2, objects=1, empty_images=0)
    visit(app, data)
    assert "Nothing is measured yet" in text_on(app)
    assert app.selectbox(key="measured_split").value == "valid", "what was not trained on is proposed"
    app.button(key="evaluate").click().run()
    assert not app.exception and not app.error
    table = app.dataframe[0].value.set_index("Metric")
    assert table.index.tolist() == [label for label, _ in METRICS.values()]
    loss = table.loc["Validation loss"]
    assert loss["Base"] > 0 and loss["Adapter"] > 0
    assert loss["Difference"] == pytest.approx(loss["Adapter"] - loss["Base"])
    assert loss["Difference"] != 0, "the adapter was switched on for its half"
    assert len(app.metric) == len(measures.TILES)
    assert "split valid" in text_on(app) and "2 images" in text_on(app)


def test_without_an_adapter_the_base_alone_is_measured(app: AppTest, tmp_path: Path) -> None:
    visit(app, write_dataset(tmp_path / "data", images=1, objects=1, empty_images=0))
    assert "There is no adapter yet" in text_on(app)
    app.button(key="evaluate").click().run()
    assert not app.exception and not app.error
    assert "Adapter" not in app.dataframe[0].value
    assert "the base model alone" in text_on(app)


def test_dataset_without_objects_gives_a_sentence(app: AppTest, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", images=0)
    assert not any(split.num_objects for split in open_dataset(data).splits.values())
    visit(app, data)
    assert "split with objects" in app.error[0].value
    assert not app.button


def measured(**changes: object) -> Measured:
    return replace(Measured("demo", "valid", 3, "a/best", NUMBERS, BETTER), **changes)


def test_differences_are_told_in_words() -> None:
    table = measures.table(measured()).set_index("Metric")
    assert table.loc["Mask mAP", "In words"] == "better"
    assert table.loc["Box mAP", "In words"] == "worse"
    assert table.loc["Validation loss", "In words"] == "better", "a lower loss is better"
    assert table.loc["F1", "In words"] == "the same"
    assert table.loc["cgF1", "In words"] == "not comparable"


def test_headline_says_which_way_it_went() -> None:
    assert "raises mask mAP from 0.500 to 0.750" in measures.headline(measured())
    assert "lowers" in measures.headline(measured(base=BETTER, adapter=NUMBERS))
    assert "stays" in measures.headline(measured(adapter=NUMBERS))
    assert "base model" in measures.headline(measured(adapter=None, adapter_name=None))


def test_tiles_colour_a_lower_loss_as_good() -> None:
    tiles = {tile.label: tile for tile in measures.tiles(measured())}
    assert tiles["Validation loss"].color == "inverse" and tiles["Validation loss"].delta.startswith("-100")
    assert tiles["Mask mAP"].color == "normal" and tiles["Mask mAP"].delta.startswith("+0.250")
    assert tiles["F1"].color == "off"


def test_every_metric_that_is_measured_has_a_name_and_a_meaning(tmp_path: Path) -> None:
    from sam3_lora.evaluate import evaluate
    from sam3_lora.predict import Predictor

    data = write_dataset(tmp_path, images=1, objects=1, empty_images=0)
    assert set(evaluate(Predictor.load("demo"), open_dataset(data).split("valid"))) == set(METRICS)
