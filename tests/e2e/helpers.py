"""What several browser tests need: the state of the live chart, and a run with an adapter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sam3_lora.config import RunConfig
from sam3_lora.model import lora
from sam3_lora.model.base import load_base
from sam3_lora.runs.run import Run
from tests.e2e.browser import App
from tests.factories import write_dataset
from tests.ui.run_folders import create_run

CHART = ".sam3-live-chart"


def chart_state(page) -> dict:
    """What the chart shows: points of the total, ranges of both axes, names of hidden curves, our mark on its node."""
    return page.evaluate(
        """selector => {
            const chart = document.querySelector(selector);
            return {
                points: chart.data[0].x.length,
                x: chart._fullLayout.xaxis.range,
                y: chart._fullLayout.yaxis.range,
                hidden: chart.data
                    .filter(trace => trace.visible === "legendonly" && trace.showlegend)
                    .map(trace => trace.name),
                mark: chart.dataset.mark ?? null,
            };
        }""",
        CHART,
    )


def wait_for_more(page, points: int) -> None:
    page.wait_for_function(
        f"points => document.querySelector('{CHART}')?.data?.[0].x.length > points", arg=points, timeout=30_000
    )


def zoom(page, *, hold_ms: int) -> None:
    """Drags over the upper left part of the chart, keeping the button down for a while before the end."""
    box = page.locator(f"{CHART} .nsewdrag").bounding_box()
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.1 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.6 * box["height"], steps=5)
    page.wait_for_timeout(hold_ms)
    page.mouse.up()
    page.wait_for_timeout(300)


def same_view(before: dict, after: dict) -> bool:
    return (
        all(before[what] == pytest.approx(after[what]) for what in ("x", "y")) and before["hidden"] == after["hidden"]
    )


def save_adapter(app: App) -> Run:
    """A run with an adapter of random weights that can be loaded."""
    run = Run.create(RunConfig().with_settings({"output.runs": str(app.runs), "output.name": "tried"}))
    model = lora.attach(load_base("demo").model, run.config.lora)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(parameter, 0.05)
    lora.save(model, run.folder / "adapters" / "best", "demo")
    return run


def quick_run(runs: Path, base: Path, folder: Path, steps: int) -> Run:
    """A run that was not started, whose settings the next one takes over: a model and a dataset that are quick."""
    dataset = write_dataset(folder / "data", images=39, empty_images=1)
    settings = {
        "model.base": str(base),
        "data.path": str(dataset),
        "lora.rank": 4,
        "training.max_steps": steps,
        "training.epochs": 1000,
        "training.batch_size": 1,
        "training.precision": "fp32",  # what is auto is chosen when a run starts, and this one never did
        "model.gradient_checkpointing": False,
        "training.select_best_by": "loss",
        "data.num_workers": 0,
        "output.sample_images": ["1_000.png"],
        "training.checkpoint_every": 50,
        "training.device": "cpu",
        "data.valid_split": "",
    }
    return create_run(runs, "earlier", **settings)
