"""A run that can only be watched: of another user, on a read-only disk, damaged, or under a clock that jumps."""

import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sam3_lora.config import RunConfig
from sam3_lora.errors import RunError, Sam3LoraError
from sam3_lora.runs.archive import zip_run
from sam3_lora.runs.run import Run, list_runs
from sam3_lora.ui.runs import table_row

OTHER = 65_534  # a user without rights
FILES = ("config.yaml", "status.json", "metrics.jsonl", "log.txt", "held_out.json", "auto.json")


@pytest.fixture
def folder():
    """A folder for runs that every user may enter, unlike pytest's."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def run(folder):
    run = Run.create(RunConfig().with_settings({"output.runs": str(folder)}))
    run.folder.chmod(0o755)
    return run


@contextmanager
def another_user():
    """Inside, this process has no rights that others lack."""
    if os.geteuid():
        pytest.skip("needs root to become another user")
    os.seteuid(OTHER)
    try:
        yield
    finally:
        os.seteuid(0)


def read_all(run: Run) -> None:
    """Every reader of a run; those of files that were chosen by users may say that they cannot."""
    run.status(), run.metrics(), run.log_tail(), run.adapters(), run.adapter_bytes(), run.samples(), run.checkpoints()
    run.requests.pending(), run.resume_obstacle(), run.is_locked(), run.unreadable(), table_row(run)
    list_runs(run.folder.parent)
    for read in (lambda: run.config, run.held_out, run.auto_values, lambda: run.asked_config):
        with suppress(Sam3LoraError):
            read()


def running(writer):
    writer.row(kind="step", step=1, total=1.0, terms={})
    writer.log("a line")
    writer.update(force=True, state="running", step=1)


@pytest.mark.parametrize("lock_mode", [0o644, 0o600])
def test_a_run_of_another_user_is_watched_as_far_as_it_can_be_read(run, lock_mode):
    with run.writing() as writer:
        running(writer)
        (run.folder / ".lock").chmod(lock_mode)
        with another_user():
            status = run.status()
            assert (status.state, status.step) == ("running", 1)
            assert [row["step"] for row in run.metrics()[0]] == [1] and "a line" in run.log_tail()
            assert run.resume_obstacle() == ("active" if lock_mode == 0o644 else "unknown")
            for act in (lambda: run.requests.add("stop"), run.require_resumable, run.delete, run.writing().__enter__):
                with pytest.raises(RunError):
                    act()
    with another_user():
        ended = run.status()
    # The lock alone tells that the process has ended; where it is unreadable, so does nothing.
    assert ended.state == ("crashed" if lock_mode == 0o644 else "running")
    assert lock_mode == 0o644 or "may have ended" in ended.message
    assert run.status().state == "crashed"


def make_folder(path):
    path.mkdir()


def make_dangling(path):
    path.symlink_to(path.parent / "nowhere")


def make_loop(path):
    path.symlink_to(path)


@pytest.mark.parametrize("make", [make_folder, make_dangling, make_loop, os.mkfifo])
def test_a_lock_that_cannot_be_opened_leaves_the_run_readable_and_unharmed(run, make):
    with run.writing() as writer:
        running(writer)
    (run.folder / ".lock").unlink()
    make(run.folder / ".lock")
    assert (run.status().state, run.resume_obstacle()) == ("running", "unknown")
    read_all(run)
    for act in (run.require_resumable, run.delete, run.writing().__enter__):
        with pytest.raises(RunError, match=r"\.lock"):
            act()


@pytest.mark.parametrize("kind", ["unreadable", "folder", "dangling", "loop", "pipe", "half", "noise", "deep"])
@pytest.mark.timeout(20)  # a pipe would block for ever
def test_every_reader_holds_whatever_a_file_of_the_run_is(run, kind):
    with run.writing() as writer:
        running(writer)
    for name in ("checkpoints", "samples", "adapters", "requests"):
        (run.folder / name).mkdir()
    paths = [*(run.folder / name for name in FILES), *(run.folder / name for name in ("checkpoints/step-1.pt",
        "samples/samples.jsonl", "adapters/best", "requests/stop"))]  # fmt: skip
    made = {"folder": make_folder, "dangling": make_dangling, "loop": make_loop, "pipe": os.mkfifo}
    if kind in ("pipe", "deep"):
        paths.remove(run.folder / "config.yaml")  # tests/test_config.py has these
    read_all(run)  # imports what another user may not
    for path in paths:
        before = path.read_bytes() if path.exists() else b"{}"
        path.unlink(missing_ok=True)
        if kind in made:
            made[kind](path)
        else:
            written = {"half": before[: len(before) // 2], "noise": os.urandom(500), "deep": b"[" * 100_000}
            path.write_bytes(written.get(kind, before))
            path.chmod(0o000 if kind == "unreadable" else 0o644)
    if kind == "unreadable":
        with another_user():
            read_all(run)
            assert set(run.unreadable()) == {*FILES, "samples.jsonl"}
        assert not run.unreadable()
    else:
        read_all(run)
        assert bool(run.unreadable()) == (kind in ("folder", "loop", "pipe"))


@pytest.mark.parametrize("name", ["checkpoints", "samples", "adapters", "requests"])
@pytest.mark.parametrize("make", [make_folder, make_dangling, make_loop, os.mkfifo, Path.touch])
def test_every_reader_holds_whatever_a_folder_of_the_run_is(run, name, make):
    make(run.folder / name)
    if make is make_folder:
        (run.folder / name).chmod(0o000)
        with another_user():
            read_all(run)
    else:
        read_all(run)


def test_requests_that_cannot_be_left_or_withdrawn_are_told_in_a_sentence(run, folder):
    run.requests.add("pause")
    with another_user():
        for request in ("stop", "continue"):
            with pytest.raises(RunError, match=rf"request to {'stop' if request == 'stop' else 'pause'} cannot be"):
                run.requests.add(request)


def test_an_archive_leaves_out_what_is_no_file(run, tmp_path):
    (run.folder / "log.txt").mkdir()
    assert zip_run(run.folder, tmp_path).stat().st_size


@pytest.mark.parametrize("jump", [-1e7, -3600, 0, 3600, 1e7])
def test_whether_a_run_goes_on_does_not_depend_on_the_clock(run, jump, monkeypatch):
    now = time.time
    with run.writing() as writer:
        running(writer)
        monkeypatch.setattr("time.time", lambda: now() + jump)
        assert run.status().state == "running"
        monkeypatch.undo()
    monkeypatch.setattr("time.time", lambda: now() + jump)
    assert run.status().state == "crashed"


def test_a_run_without_a_lock_is_new_for_seconds_only_whatever_the_clock_does(run, monkeypatch):
    assert run.status().state == "preparing"
    now = time.time
    for jump in (-3600, -60, 60, 3600):
        monkeypatch.setattr("time.time", lambda jump=jump: now() + jump)
        assert run.status().state == "crashed"


def test_those_who_ask_at_the_same_time_do_not_take_each_other_for_the_writer(run):
    with run.writing() as writer:
        running(writer)
    import fcntl

    with (run.folder / ".lock").open() as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)  # as lock_state does
        assert run.status().state == "crashed"
