"""model.compile: the same numbers and the same files, and one line in the log where the compiler fails."""

import shutil
from functools import partialmethod

import pytest
import torch
from safetensors.torch import load_file

from sam3_lora.model.detector import Sam3Detector
from tests.train.helpers import totals, train


@pytest.fixture
def settings(only_steps):
    """Two steps with checkpointing, which has to go with it."""
    return {"training__max_steps": 2, "data__valid_split": "", "model__gradient_checkpointing": True}


def use(monkeypatch, backend):
    compiled = partialmethod(Sam3Detector.compile_vision, backend=backend)
    monkeypatch.setattr(Sam3Detector, "compile_vision", compiled)


def names_of(run):
    return load_file(run.adapters()["last"] / "adapter_model.safetensors").keys()


def test_a_compiled_run_gives_the_same_losses_and_names(config, settings, monkeypatch):
    plain = train(config, **settings)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    use(monkeypatch, backend)
    compiled = train(config, model__compile=True, **settings)
    assert graphs
    assert totals(compiled) == pytest.approx(totals(plain), rel=1e-5)
    assert names_of(compiled) == names_of(plain)
    assert compiled.status().state == "finished" and "not compiled" not in compiled.log_tail()


def test_a_compiler_that_fails_is_told_and_left_out(config, settings, monkeypatch):
    def backend(graph, inputs):
        raise RuntimeError("no compiler here\nand more")

    use(monkeypatch, backend)
    run = train(config, model__compile=True, **settings)
    assert run.status().state == "finished" and len(totals(run)) == 2
    told = [line for line in run.log_tail().splitlines() if "not compiled" in line]
    assert len(told) == 1 and told[0].endswith("because the compiler failed: no compiler here")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_the_compiler_itself_gives_the_same_losses(config, settings):
    plain, compiled = train(config, **settings), train(config, model__compile=True, **settings)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert "not compiled" not in compiled.log_tail()
    assert totals(compiled) == pytest.approx(totals(plain), rel=1e-4)
