"""A training process that is killed at any moment loses nothing but the steps since its last checkpoint."""

import random
import signal

import pytest
from safetensors.torch import load_file

from sam3_lora.runs.run import Run, effective_rows
from tests.train.lives import live

STEPS_A_LIFE = 6  # a life takes up to 3 steps from its checkpoint, and some more while the killing is under way

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


def totals(run):
    rows = [row for row in effective_rows(run.metrics()[0]) if row["kind"] == "step"]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["total"] for row in rows]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_run_killed_again_and_again_has_the_losses_of_one_that_never_was(config, processes, kills):
    def let_live(run, resume, *end, in_app=False):
        process = processes.Process(target=live, args=(str(run.folder), resume, *end), kwargs={"in_app": in_app})
        process.start()
        process.join()
        return process.exitcode

    settings = {"training.max_steps": STEPS_A_LIFE * kills, "training.checkpoint_every": 2, "training.batch_size": 1}
    settings |= {"replay.source": "own", "replay.images_per_step": 1}
    whole, killed = (Run.create(config.with_settings(settings)) for _ in range(2))
    chance, reached = random.Random(0), 0
    for life in range(kills):
        # Steps, checkpoints, evaluations, adapters being saved: the delay lands in any of them.
        end = reached + (chance.choice((1, 2, 3)) if life else 2), chance.uniform(0, 0.08)
        in_app = life % 2 == 1  # the thread of the app dies with it
        assert let_live(killed, life > 0, *end, in_app=in_app) == -signal.SIGKILL, killed.log_tail()
        assert killed.status().state == "crashed"
        assert killed.resume_obstacle() is None
        for adapter in killed.adapters().values():
            assert load_file(adapter / "adapter_model.safetensors")
        reached = int(killed.checkpoints()[0].stem.removeprefix("step-"))
    assert let_live(killed, True) == let_live(whole, False) == 0
    assert killed.status().state == whole.status().state == "finished"
    assert totals(killed) == pytest.approx(totals(whole), rel=1e-6)
    assert killed.status().best_validation_loss == pytest.approx(whole.status().best_validation_loss, rel=1e-6)
    assert sum(row["kind"] == "resume" for row in killed.metrics()[0]) == kills
