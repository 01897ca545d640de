"""A checkpoint is what was written, or it is not used."""

import random

import pytest
import torch

from sam3_lora.runs.run import Run
from sam3_lora.train import checkpoint
from sam3_lora.train.checkpoint import read_checkpoint
from sam3_lora.train.loop import fit
from tests.train.helpers import request_after, totals, train

STATE = {"progress": {"step": 3}, "adapter": {"a": torch.arange(6.0).view(2, 3)}, "random": [(1, 2.5)]}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "step-00000003.pt"
    with path.open("wb") as file:
        checkpoint._write(file, STATE)
    return path


def test_a_checkpoint_is_read_as_it_was_written(path):
    state = read_checkpoint(path)
    assert torch.equal(state["adapter"]["a"], STATE["adapter"]["a"])
    assert (state["progress"], state["random"]) == (STATE["progress"], STATE["random"])


def test_a_change_of_any_byte_is_noticed(path):
    sound, chance = path.read_bytes(), random.Random(0)
    for place in range(len(sound)):
        spoiled = bytearray(sound)
        spoiled[place] ^= chance.randrange(1, 256)
        path.write_bytes(spoiled)
        with pytest.raises(ValueError):
            read_checkpoint(path)
    for spoiled in (b"", sound[:5], sound[:-1], sound + b"x", sound[len(sound) // 2 :], bytes(len(sound))):
        path.write_bytes(spoiled)
        with pytest.raises(ValueError):
            read_checkpoint(path)


def test_a_checkpoint_of_an_earlier_version_is_read(path):
    torch.save(STATE, path)
    assert torch.equal(read_checkpoint(path)["adapter"]["a"], STATE["adapter"]["a"])


@pytest.mark.usefixtures("only_steps")
def test_a_run_goes_on_from_the_last_sound_checkpoint_and_says_so(config, monkeypatch):
    settings = {"training.checkpoint_every": 1, "training.keep_checkpoints": 2, "training.batch_size": 1}
    config = config.with_settings({**settings, "training.max_steps": 5})
    whole = train(config)
    run = Run.create(config)
    with monkeypatch.context() as patch:
        request_after(patch, 3, "stop")
        fit(run)
    newest, before = run.checkpoints()
    spoiled, chance = bytearray(newest.read_bytes()), random.Random(0)
    for place in chance.sample(range(len(spoiled)), 200):
        spoiled[place] ^= chance.randrange(1, 256)
    newest.write_bytes(spoiled)
    state = read_checkpoint(before)
    del state["progress"]["evaluated_step"]
    torch.save(state, before)  # as an earlier version wrote it
    assert fit(run, resume=True).state == "finished"
    assert totals(run) == totals(whole)
    (note,) = [row for row in run.metrics()[0] if row["kind"] == "note"]
    assert note["about"] == "checkpoint-damaged" and newest.name in note["message"]
    assert newest.name in run.log_tail()


@pytest.mark.usefixtures("only_steps")
def test_a_damaged_checkpoint_does_not_take_the_place_of_a_sound_one(config, monkeypatch):
    settings = {"training.checkpoint_every": 0, "training.keep_checkpoints": 1, "training.batch_size": 1}
    run = Run.create(config.with_settings({**settings, "training.max_steps": 5}))
    with monkeypatch.context() as patch:
        request_after(patch, 1, "stop")
        fit(run)
    damaged = run.folder / "checkpoints" / "step-00000009.pt"
    damaged.write_bytes(b"damaged")
    with monkeypatch.context() as patch:
        request_after(patch, 2, "stop")
        assert fit(run, resume=True).state == "stopped"
    assert [path.stem for path in run.checkpoints()] == ["step-00000002"]


@pytest.mark.parametrize("at", [1, 20, 40])
def test_ctrl_c_while_a_checkpoint_is_written_is_no_full_disk(config, monkeypatch, at):
    """torch raises its own RuntimeError where a file does not take what it writes."""
    write, written = checkpoint._Hashed.write, []

    def interrupted(self, data):
        written.append(len(data))
        if len(written) == at:
            raise KeyboardInterrupt
        return write(self, data)

    monkeypatch.setattr(checkpoint._Hashed, "write", interrupted)
    run = Run.create(config.with_settings({"training.checkpoint_every": 1}))
    with pytest.raises(KeyboardInterrupt):
        fit(run)
    assert run.status().state == "stopped" and not run.checkpoints()
