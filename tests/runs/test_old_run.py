"""A run folder that was written before settings and parts were renamed still opens.

old_run/ holds its files unchanged, without weights and checkpoints: a run of 4 steps, stopped after 3.
"""

import math
import shutil
from pathlib import Path

import pytest

from sam3_lora.monitor.curves import REPLAY, SHOWN, draw
from sam3_lora.monitor.history import History
from sam3_lora.monitor.rolling import RollingMetrics
from sam3_lora.runs.run import Run, effective_rows, list_runs
from sam3_lora.ui.runs import table_row

OLD_RUNS = Path(__file__).parent / "old_run"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder of runs with a copy of the old one, since status and resume look for a lock."""
    return Path(shutil.copytree(OLD_RUNS, tmp_path / "runs"))


@pytest.fixture
def run(runs: Path) -> Run:
    (folder,) = runs.iterdir()
    return Run.open(folder)


def test_it_is_listed_with_its_time_and_state(runs: Path) -> None:
    (run,) = list_runs(runs)
    assert run.name == "20261129-065721-old-run" and run.began > 0
    status = run.status()
    assert (status.state, status.step, status.total_steps, status.best_step) == ("stopped", 3, 4, 3)
    assert status.best_validation_loss == pytest.approx(69.639, abs=1e-3)
    assert (status.best_by, status.best) == ("loss", status.best_validation_loss)
    assert status.best_sentence == "validation loss 69.639"
    assert (status.device, status.reload_proof) == ("cpu", "ok")
    assert "Stopped after 3 steps." in run.log_tail()
    row = table_row(run)
    assert (row["Run"], row["State"], row["Steps"]) == ("old-run, 29 November 2026 at 06:57:21", "Stopped", "3 of 4")
    assert row["Best adapter"] == "validation loss 69.639"


def test_its_settings_are_read_by_their_new_names(run: Run) -> None:
    config = run.config
    assert config.data.category_phrases == {"crack": "a crack in the road"}
    assert config.data.default_phrase == "road damage"
    assert config.data.image_dir == ""
    assert config.training.gradient_accumulation_steps == 2
    assert (config.output.name, config.lora.rank, config.training.max_steps) == ("old run", 4, 4)


def test_its_metrics_become_curves_alerts_and_verdicts(run: Run) -> None:
    rows, offset = run.metrics()
    assert offset == (run.folder / "metrics.jsonl").stat().st_size
    assert [row["kind"] for row in effective_rows(rows)] == ["step"] * 3 + ["validation"] * 2
    for row in rows:
        assert math.isclose(sum(row["terms"].values()), row["total"], rel_tol=1e-4)
        assert row["terms"].keys() == row["raw"].keys()
    history, rolling = History(), RollingMetrics()
    history.extend(rows)
    rolling.extend(rows)
    assert history.steps == [1, 2, 3] and len(history.validation) == 1
    assert all(draw(history, shown).curves for shown in SHOWN if shown != REPLAY)
    assert rolling.alerts(run.config) == []
    assert rolling.verdicts(run.config)["total"].level == "low"


def test_its_samples_and_adapters_are_found(run: Run) -> None:
    assert [(sample.step, sample.image, sample.found, sample.objects) for sample in run.samples()] == [
        (0, "1_000.png", 0, 2),
        (3, "1_000.png", 0, 2),
    ]
    assert set(run.adapters()) == {"best", "last"}


def test_it_can_be_resumed_from_its_checkpoint_renamed_and_compared(run: Run) -> None:
    assert run.resume_obstacle() == "no-checkpoint"
    (run.folder / "checkpoints").mkdir()
    (run.folder / "checkpoints" / "step-00000003.pt").touch()
    assert run.resume_obstacle() is None
    renamed = run.rename("renamed")
    assert renamed.name == "20261129-065721-renamed"
    text = (renamed.folder / "config.yaml").read_text(encoding="utf-8")
    assert "gradient_accumulation_steps: 2" in text and "category_phrases" in text
    other = Run.create(renamed.config.with_settings({"output.runs": str(run.folder.parent), "lora.rank": 8}))
    assert renamed.differences(other)["lora.rank"] == (4, 8)
