"""Full disks, too little memory, vanished images, changed datasets: each ends in a clear state, adapters intact."""

import errno
import shutil
import subprocess

import pytest
import torch
from safetensors.torch import load_file

from sam3_lora.errors import DataError, RunError, TrainingError
from sam3_lora.runs.run import Run
from sam3_lora.train import checkpoint, setup, step
from sam3_lora.train.checkpoint import read_checkpoint
from sam3_lora.train.loop import fit
from tests.factories import write_dataset
from tests.train.helpers import request_after, steps, train

pytestmark = pytest.mark.usefixtures("only_steps")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], capture_output=True)
    except OSError:
        pytest.skip("there is no mount command")
    if mounted.returncode:
        pytest.skip("a file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder, leave):
    """Leaves only so many bytes free."""
    with (folder / "filling").open("wb") as file:
        file.write(bytes(shutil.disk_usage(folder).free - leave))


def test_a_disk_that_fills_up_while_saving_keeps_the_last_checkpoint_and_adapters(config, small_disk, monkeypatch):
    settings = {"output.runs": str(small_disk / "runs"), "training.checkpoint_every": 1, "training.batch_size": 1}
    run = Run.create(config.with_settings(settings))
    original, saved = checkpoint.torch.save, []

    def save(*args, **kwargs):
        saved.append(1)
        if len(saved) == 3:
            fill(small_disk, leave=20_000)
        return original(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(RunError, match="No space left"):
        patch.setattr(checkpoint.torch, "save", save)
        fit(run)
    status = run.status()
    assert status.state == "failed" and "Free some space" in status.message
    assert read_checkpoint(run.checkpoints()[0])["progress"]["step"] == 2
    assert not list((run.folder / "checkpoints").glob("*.tmp"))
    assert load_file(run.adapters()["last"] / "adapter_model.safetensors")

    (small_disk / "filling").unlink()
    assert fit(run, resume=True).state == "finished"
    assert [row["step"] for row in steps(run)] == [1, 2, 3, 4]


def test_no_space_for_a_line_of_metrics_ends_the_run_with_its_sentence(config, small_disk, monkeypatch):
    run = Run.create(config.with_settings({"output.runs": str(small_disk / "runs"), "training.checkpoint_every": 1}))
    original = step.take_step

    def fill_then_step(setup, group, **options):
        if run.checkpoints():
            fill(small_disk, leave=0)
        return original(setup, group, **options)

    monkeypatch.setattr("sam3_lora.train.loop.take_step", fill_then_step)
    with pytest.raises(RunError, match="No space left"):
        fit(run)
    # What was reserved for the end lets it be told even on a disk without a single free byte.
    assert run.status().state == "failed"
    assert "Free some space" in run.status().message
    assert run.resume_obstacle() is None


@pytest.mark.parametrize("place", ["checkpoint", "adapter"])
def test_a_failing_write_names_what_could_not_be_written(config, monkeypatch, place):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    if place == "checkpoint":
        monkeypatch.setattr(checkpoint.torch, "save", full)
    else:
        monkeypatch.setattr("safetensors.torch.save_file", full)
        monkeypatch.setattr("peft.peft_model.safe_save_file", full)
    run = Run.create(config.with_settings({"training.max_steps": 1, "data.valid_split": ""}))
    with pytest.raises(Exception, match="No space left"):
        fit(run)
    assert run.status().state == "failed"
    assert place in run.status().message


def lack_memory(monkeypatch, *sick_steps):
    """Lets the forward pass of these steps run out of memory."""
    original, count = setup.Setup.forward, []

    def forward(run_setup, model, batch):
        count.append(1)
        if len(count) in sick_steps:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return original(run_setup, model, batch)

    monkeypatch.setattr(setup.Setup, "forward", forward)


def test_a_step_that_does_not_fit_into_memory_is_skipped_and_said(config, monkeypatch):
    lack_memory(monkeypatch, 2)
    run = train(config)
    assert [row["step"] for row in steps(run)] == [1, 3, 4]
    (skipped,) = [row for row in run.metrics()[0] if row["kind"] == "skipped"]
    assert skipped["step"] == 2 and len(skipped["images"]) == 2
    assert "does not fit into memory" in run.log_tail()
    status = run.status()
    assert (status.state, status.skipped_steps, status.step) == ("finished", 1, 4)


def test_three_skipped_steps_in_a_row_end_the_run_with_advice(config, monkeypatch):
    lack_memory(monkeypatch, 2, 3, 4)
    run = Run.create(config.with_settings({"training.checkpoint_every": 1, "training.batch_size": 1}))
    with pytest.raises(TrainingError, match=r"3 steps in a row.*gradient checkpointing"):
        fit(run)
    assert run.status().state == "failed" and run.status().skipped_steps == 3
    assert run.resume_obstacle() is None and load_file(run.adapters()["last"] / "adapter_model.safetensors")


def test_memory_that_runs_out_elsewhere_is_explained(config, monkeypatch):
    def measure(setup):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("sam3_lora.train.loop.validate", measure)
    run = Run.create(config)
    with pytest.raises(TrainingError, match="memory of cpu is too small"):
        fit(run)
    assert "Try, one after the other" in run.status().message


def test_a_run_goes_on_over_a_changed_dataset_and_says_so(config, tmp_path, monkeypatch):
    data = write_dataset(tmp_path / "data", images=4, empty_images=0)
    run = Run.create(config.with_settings({"data.path": str(data), "output.sample_images": []}))
    with monkeypatch.context() as patch:
        request_after(patch, 1, "stop")
        fit(run)
    vanished = sorted((data / "train").glob("*.png"))[0]
    pixels = vanished.read_bytes()
    vanished.unlink()
    assert fit(run, resume=True).state == "finished"
    (note,) = [row for row in run.metrics()[0] if row["kind"] == "note"]
    assert note["about"] == "dataset-changed" and "'train'" in note["message"]
    assert "1 image of the split 'train' is missing" in run.log_tail()
    vanished.write_bytes(pixels)


def test_an_image_that_vanishes_while_training_ends_the_run_with_its_name(config, tmp_path, monkeypatch):
    data = write_dataset(tmp_path / "data", images=4, empty_images=0)
    original = step.take_step

    def step_then_delete(setup, group, **options):
        for path in (data / "train").glob("*.png"):
            path.unlink(missing_ok=True)
        return original(setup, group, **options)

    monkeypatch.setattr("sam3_lora.train.loop.take_step", step_then_delete)
    settings = {"data.path": str(data), "training.checkpoint_every": 1, "training.batch_size": 1}
    run = Run.create(config.with_settings(settings))
    with pytest.raises(DataError, match=r"\.png.*missing"):
        fit(run)
    assert run.status().state == "failed" and ".png" in run.status().message
    assert run.resume_obstacle() is None


def test_the_last_checkpoints_are_kept_and_a_damaged_one_is_passed_over(config, monkeypatch):
    settings = {"training.checkpoint_every": 1, "training.keep_checkpoints": 3, "training.batch_size": 1}
    run = Run.create(config.with_settings({**settings, "training.max_steps": 5}))
    with monkeypatch.context() as patch:
        request_after(patch, 4, "stop")
        fit(run)
    assert [path.stem for path in run.checkpoints()] == ["step-00000004", "step-00000003", "step-00000002"]
    run.checkpoints()[0].write_bytes(run.checkpoints()[0].read_bytes()[:1000])
    assert fit(run, resume=True).state == "finished"
    assert "step-00000004.pt is damaged" in run.log_tail()
    assert [row["step"] for row in run.metrics()[0] if row["kind"] == "resume"] == [3]


def test_a_checkpoint_of_another_structure_is_passed_over_too(config, monkeypatch):
    run = Run.create(config.with_settings({"training.checkpoint_every": 1, "training.batch_size": 1}))
    with monkeypatch.context() as patch:
        request_after(patch, 3, "stop")
        fit(run)
    torch.save({"something": 1}, run.checkpoints()[0])
    assert fit(run, resume=True).state == "finished"
    assert "step-00000003.pt cannot be used" in run.log_tail()
    assert [row["step"] for row in run.metrics()[0] if row["kind"] == "resume"] == [2]


def test_a_dataset_that_goes_while_a_run_is_made_ready_is_told_in_a_sentence(config, tmp_path, monkeypatch):
    data = write_dataset(tmp_path / "data", images=2, empty_images=0)
    original = setup.load_base

    def load(*args, **options):
        shutil.rmtree(data)
        return original(*args, **options)

    monkeypatch.setattr(setup, "load_base", load)
    run = Run.create(config.with_settings({"data.path": str(data)}))
    with pytest.raises(DataError, match="cannot be read any more"):
        fit(run)
