"""A run whose disk fills up or becomes read-only, or whose process dies, at any write: it resumes as if nothing was."""

import errno
import shutil

import pytest
from safetensors.torch import load_file

from sam3_lora.errors import Sam3LoraError
from sam3_lora.runs.run import Run
from sam3_lora.train import loop
from sam3_lora.train.checkpoint import read_checkpoint
from sam3_lora.train.loop import fit
from tests.faults import at_each_step
from tests.train.helpers import totals, train

# What is written while a run is trained; each is refused once, at its second step. The last does not end the run.
FULL = ["metrics.jsonl", "log.txt", "checkpoints", "last", "status.json", ".reserve", "best", "samples"]
# Where a disk becomes read-only: nothing more is written to it.
READ_ONLY = ["metrics.jsonl", "checkpoints", "best"]


@pytest.fixture(scope="module")
def settings(quick_config, tmp_path_factory):
    quick = {"training.checkpoint_every": 1, "training.batch_size": 3, "training.max_steps": 3}
    return quick_config.with_settings({"output.runs": str(tmp_path_factory.mktemp("runs")), **quick})


@pytest.fixture(scope="module")
def whole(settings):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "verify_reload", lambda setup, folder: "")
        yield train(settings)


def outcome(run):
    files = [run.adapters()[kind] / "adapter_model.safetensors" for kind in ("best", "last")]
    return run.status().state, totals(run), run.status().best_validation_loss, [file.read_bytes() for file in files]


def train_until_refused(run, name, number, for_good):
    """Refuses the second step of what has this name in the run's folder, and all that follow if for good.

    Returns the error, and the run to go on with: another where this one has no checkpoint.
    """
    seen, refused, met = [], [], None

    def refuse(step, path):
        if path.is_relative_to(run.folder) and name in path.as_posix().removeprefix(run.folder.as_posix()):
            seen.append(step)
        if (for_good and refused) or (len(seen) == 2 and not refused):
            refused.append(path)
            raise OSError(number, "refused", str(path))

    try:
        with at_each_step(refuse):
            fit(run, resume=bool(run.checkpoints()))
    except Sam3LoraError as error:
        assert error.fix and "\n" not in str(error)
        met = error
    assert refused, f"{name} was not written"
    ends = name != "samples"
    assert (met is not None) == ends, (name, seen, refused)
    assert run.status().state == ("finished" if not ends else "crashed" if for_good else "failed"), (name, seen, met)
    assert for_good or not list(run.folder.rglob("*.tmp"))
    return run if run.checkpoints() else Run.create(run.config)


def test_a_full_disk_ends_a_run_in_a_sentence_and_it_resumes(settings, whole):
    run = Run.create(settings)
    for name in FULL:
        run = train_until_refused(run, name, errno.ENOSPC, for_good=False)
    assert any(row.get("about") == "samples-not-written" for row in run.metrics()[0])
    assert outcome(run) == outcome(whole)


@pytest.mark.slow
def test_a_disk_that_becomes_read_only_ends_a_run_in_a_sentence_and_it_resumes(settings, whole):
    run = Run.create(settings)
    for name in READ_ONLY:  # the lock shows that the run has crashed: the status cannot be written
        run = train_until_refused(run, name, errno.EROFS, for_good=True)
    fit(run, resume=True)
    assert outcome(run) == outcome(whole)
    assert not list(run.folder.rglob("*.tmp"))


@pytest.mark.slow
def test_what_a_killed_run_leaves_is_whole_and_resumes(settings, whole, tmp_path):
    run, left, seen = Run.create(settings), [], set()

    def look(step, path):
        if not path.is_relative_to(run.folder) or not run.checkpoints():
            return
        kind = (step, path.relative_to(run.folder).as_posix().split("/")[0])
        if kind in seen or step not in ("half", "rename", "done"):
            return
        seen.add(kind)
        left.append(Run(tmp_path / f"{len(left)}" / run.name))
        shutil.copytree(run.folder, left[-1].folder)

    with at_each_step(look):
        fit(run)
    assert {name for _, name in seen} >= {"checkpoints", "adapters", "metrics.jsonl", "log.txt", "status.json"}
    for dead in left:
        assert dead.status().state == "crashed" and dead.config == run.config
        assert [read_checkpoint(checkpoint)["progress"]["step"] for checkpoint in dead.checkpoints()]
        assert all(load_file(folder / "adapter_model.safetensors") for folder in dead.adapters().values())
    for dead in left[::5]:  # a second or more each
        fit(dead, resume=True)
        assert outcome(dead) == outcome(run) == outcome(whole)
        assert not list(dead.folder.rglob("*.tmp"))
