"""A run with tiles: what it learns from and is validated on, and that its adapter remembers the tiles."""

from __future__ import annotations

import numpy as np
import pytest

from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.tiles.cut import TiledImages
from sam3_lora.errors import ConfigError
from sam3_lora.evaluate import EvaluationRequest, evaluate
from sam3_lora.model.adapter_files import adapter_base
from sam3_lora.predict.predictor import Predictor
from sam3_lora.tiles import Tiling
from sam3_lora.train.preflight.preflight import preflight
from tests.ellipses import Ellipse, split_of
from tests.train.helpers import steps, train

TILING = Tiling(160, 0.25)


@pytest.fixture(scope="module")
def tiled_config(quick_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ellipses")
    objects: list[Ellipse] = [(number % 2, (60.0 + 70 * number, 60.0 + 40 * number), (9.0, 9.0)) for number in range(5)]
    split_of(folder, [objects, objects[:2]])
    split_of(folder, [objects, []], name="valid")
    settings = {"data.path": str(folder), "data.tiles": TILING.size, "data.tile_overlap": TILING.overlap}
    return quick_config.with_settings(settings | {"training.max_steps": 2, "output.sample_images": []})


@pytest.fixture(scope="module")
def run(tiled_config, tmp_path_factory):
    return train(tiled_config, output__runs=str(tmp_path_factory.mktemp("runs")))


def test_a_run_learns_from_tiles_and_is_validated_on_whole_images(run, tiled_config):
    assert run.status().state == "finished"
    tiles = TiledImages(open_dataset(tiled_config.data.path).split("train").images, TILING)
    assert f"{len(tiles)} tiles" in (run.folder / "log.txt").read_text()
    (row,) = [row for row in run.metrics()[0] if row["kind"] != "step" and "f1_50" in row][-1:]
    assert np.isfinite(row["total"])
    assert row["f1_50"] is not None
    assert len(steps(run)) == 2
    assert len(run.samples()) == 2, "one image with objects, before and after"


def test_the_adapter_remembers_its_tiles(run):
    adapter = run.folder / "adapters" / "best"
    assert adapter_base.read(adapter).tiles == TILING
    config = run.config.model
    assert Predictor.load(config.base, adapter, "cpu").tiles == TILING
    assert Predictor.load(config.base, adapter, "cpu", tiles=None).tiles is None
    assert Predictor.load(config.base, None, "cpu").tiles is None


def test_evaluation_measures_whole_images(run, tiled_config):
    split = open_dataset(tiled_config.data.path).split("valid")
    predictor = Predictor.load(run.config.model.base, run.folder / "adapters" / "best", "cpu")
    report = evaluate(predictor, EvaluationRequest(split, "ellipses", "tiny"))
    assert report.images == 2
    assert report.objects == 5
    assert np.isfinite(report.base.metrics["validation_loss"])
    assert any("tiles" in note for note in report.notes)


def test_the_check_counts_tiles(tiled_config):
    result = preflight(tiled_config.with_settings({"training.max_steps": None, "training.epochs": 3}))
    assert result.ok
    assert result.tiles is not None
    assert result.length.total_steps == 3 * -(-len(result.tiles) // 2)
    assert result.measured.seconds_per_step > 0


def test_auto_is_resolved_and_kept(tiled_config, tmp_path):
    run = train(tiled_config, data__tiles="auto", output__runs=str(tmp_path), training__max_steps=1)
    (value,) = [value for value in run.auto_values() if value.setting == "data.tiles"]
    assert run.config.data.tiles == value.value
    assert value.reason in ("small-objects", "visible")


def test_settings_of_tiles_are_checked(tiled_config):
    for wrong in (10, -1, 20_000, True, "big"):
        with pytest.raises(ConfigError, match="tiles"):
            tiled_config.with_settings({"data.tiles": wrong})
