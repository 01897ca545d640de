"""What ships with the app keeps its promises: small, loaded by stock transformers, taught, and teachable."""

import pytest
from transformers import Sam3Model, Sam3Processor

from sam3_lora.config import ASSETS, RunConfig
from sam3_lora.predict.predictor import Predictor
from sam3_lora.runs.run import Run
from sam3_lora.train.loop import fit
from scripts import measure_demo

MODEL = ASSETS / "demo" / "model"
MODEL_BYTES = 12 * 2**20


def test_stock_transformers_loads_all_of_it():
    model, loading = Sam3Model.from_pretrained(MODEL, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert 1e6 < model.num_parameters() < 10e6
    assert sum(path.stat().st_size for path in MODEL.iterdir()) <= MODEL_BYTES
    tokenizer = Sam3Processor.from_pretrained(MODEL).tokenizer
    assert len(tokenizer("craquelure").input_ids) > 3  # a word it does not know, in pieces


def test_the_base_knows_its_concepts_and_says_no_to_the_rest():
    results = measure_demo.predict_scenes(Predictor.load("demo"), 25, seed=5)
    threshold = results.best_threshold()
    assert results.sweep.at(threshold).f1 > 0.6
    assert results.false_firing(threshold) < 0.2


@pytest.mark.slow
def test_a_short_run_lowers_the_validation_loss(tmp_path):
    def validation_loss(steps: int) -> float:
        settings = {"training.max_steps": steps, "training.warmup_steps": 4, "output.runs": str(tmp_path)}
        run = Run.create(RunConfig().with_settings(settings))
        fit(run)
        return [row["total"] for row in run.metrics()[0] if row["kind"] == "validation"][-1]

    assert validation_loss(30) < 0.9 * validation_loss(1)
