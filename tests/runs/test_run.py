"""A run's folder: one writer, any number of readers, and what is left after a crash."""

import json
import os
import shutil
import sys
import time
import zipfile

import pytest

from sam3_lora.config import RunConfig
from sam3_lora.errors import ConfigError, RunError
from sam3_lora.runs.archive import zip_run
from sam3_lora.runs.run import Run, effective_rows, list_runs


@pytest.fixture
def run(tmp_path):
    return Run.create(RunConfig().with_settings({"output.runs": str(tmp_path / "runs"), "output.name": "my run"}))


def test_a_new_run_holds_its_configuration(run):
    assert run.name.endswith("-my-run")
    assert run.config.output.name == "my run"
    assert run.status().state == "preparing"


def test_two_runs_of_one_name_and_second_get_two_folders(run):
    other = Run.create(run.config)
    assert other.folder != run.folder
    assert {r.folder for r in list_runs(run.folder.parent)} == {run.folder, other.folder}


def test_metrics_are_read_incrementally(run):
    with run.writing() as writer:
        writer.row(kind="step", step=1, total=1.0, terms={})
        first, offset = run.metrics()
        writer.row(kind="step", step=2, total=1.0, terms={})
        second, end = run.metrics(offset)
        assert run.metrics(end) == ([], end)
    assert [row["step"] for row in first + second] == [1, 2]


def test_half_a_line_is_left_for_later_and_mended_by_the_next_writer(run):
    with run.writing() as writer:
        writer.row(kind="step", step=1, total=1.0, terms={})
    path = run.folder / "metrics.jsonl"
    with path.open("a") as file:
        file.write('{"kind": "st')
    rows, offset = run.metrics()
    assert [row["step"] for row in rows] == [1]
    with run.writing() as writer:
        writer.row(kind="step", step=2, total=1.0, terms={})
    rows, _ = run.metrics(offset)
    assert [row["step"] for row in rows] == [2]


def test_lines_that_are_no_rows_are_passed_over(run):
    lines = [
        "3",
        "null",
        "[]",
        '{"kind": "step"}',
        '{"kind": "step", "step": "1", "total": 1, "terms": {}}',
        "[" * 9999,
    ]
    odd = ('"lr": "x"', '"images_per_second": "x"', '"box_f1_50": "x"', '"raw": []', '"raw": {"loss_mask": "x"}')
    odd += (f'"total": {"9" * 400}', '"terms": null', '"grad_norm_by_component": 3', '"epoch": null', '"time": []')
    lines += [f'{{"kind": "step", "step": 1, "total": 1, "terms": {{}}, {part}}}' for part in odd]
    notes = ('"images": 3', '"images": [1, null]', '"terms": null', '"message": 1')
    lines += [f'{{"kind": "note", "about": "not-finite", "step": 1, {part}}}' for part in notes]
    lines += [
        '{"kind": "step", "step": 1, "total": 1, "terms": []}',
        '{"kind": "odd", "step": 1, "total": 1, "terms": {}}',
    ]
    good = '{"kind": "step", "step": 1, "total": 1.5, "terms": {"loss_mask": 1.5}}'
    (run.folder / "metrics.jsonl").write_text("\n".join([*lines, good]) + "\n")
    assert [row["total"] for row in run.metrics()[0]] == [1.5]


def test_after_a_resume_the_steps_beyond_the_checkpoint_do_not_count():
    rows = [{"kind": "step", "step": s, "total": 1.0} for s in (1, 2, 3)]
    again = [{"kind": "resume", "step": 1}, {"kind": "step", "step": 2, "total": 2.0}]
    assert [(row["step"], row["total"]) for row in effective_rows(rows + again)] == [(1, 1.0), (2, 2.0)]


def test_only_one_writer_at_a_time(run):
    with run.writing(), pytest.raises(RunError, match="already being trained"), run.writing():
        pass
    with run.writing():
        pass


def test_an_exception_becomes_the_failed_state_with_its_traceback_in_the_log(run):
    with pytest.raises(ZeroDivisionError), run.writing():
        _ = 1 / 0
    assert run.status().state == "failed"
    assert "division by zero" in run.status().message
    assert "ZeroDivisionError" in run.log_tail()


def test_a_run_whose_process_is_gone_is_crashed(run):
    with run.writing() as writer:
        writer.update(force=True, state="running")
        assert run.status().state == "running"
    values = json.loads((run.folder / "status.json").read_text())
    (run.folder / "status.json").write_text(json.dumps({**values, "updated": time.time() - 60}))
    assert run.status().state == "crashed"
    for damaged in (
        '{"state": ',
        "[]",
        '{"state": "odd"}',
        json.dumps({**values, "updated": "x"}),
        json.dumps({**values, "started": float("nan")}),
        json.dumps({**values, "step": -1}),
        json.dumps({**values, "total_steps": -5}),
        "[" * 100_000,
    ):
        (run.folder / "status.json").write_text(damaged)
        assert run.status().state == "crashed"


def test_a_request_to_stop_shows_at_once_and_is_gone_with_the_next_writer(run):
    with run.writing() as writer:
        writer.update(force=True, state="running")
        run.requests.add("stop")
        assert run.status().state == "stopping"
    with run.writing():
        assert "stop" not in run.requests.pending()


def test_what_is_no_run_is_refused(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(RunError):
            Run.open(path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError):
        Run.create(RunConfig().with_settings({"output.runs": str(tmp_path / "file")}))
    assert list_runs(tmp_path) == [] == list_runs(tmp_path / "none")


@pytest.mark.parametrize("inside", ["config.yaml", "checkpoints", "checkpoints/step-00000004.pt", "adapters/last"])
def test_a_path_in_a_run_names_the_run(run, inside):
    with pytest.raises(RunError) as refused:
        Run.open(run.folder / inside)
    assert str(run.folder) in refused.value.fix


def test_runs_are_listed_by_when_they_began_whatever_their_folders_are_called(run):
    for name, started in (("zebra", 1e9), ("apple", 9e9)):
        Run.create(run.config).folder.rename(run.folder.with_name(name))
        status = json.loads((run.folder.with_name(name) / "status.json").read_text())
        (run.folder.with_name(name) / "status.json").write_text(json.dumps({**status, "started": started}))
    assert [one.name for one in list_runs(run.folder.parent)] == ["apple", run.name, "zebra"]


def test_folders_of_runs_that_are_no_paths_hold_none(tmp_path):
    for path in ("a\0b", "x" * 5000, "~nobody/x"):
        assert list_runs(path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
def test_a_folder_whose_name_is_no_text_is_passed_over(run):
    shutil.copytree(run.folder, run.folder.with_name(os.fsdecode(b"bad-\xff")))
    assert [one.name for one in list_runs(run.folder.parent)] == [run.name]


def test_the_folder_of_the_runs_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    made = Run.create(RunConfig().with_settings({"output.runs": "~/x"}))
    assert made.folder.parent == tmp_path / "x"
    assert [one.folder for one in list_runs("~/x")] == [made.folder]


def test_files_of_another_kind_in_a_run_do_no_harm(run):
    (run.folder / "log.txt").mkdir()
    (run.folder / "checkpoints").mkdir()
    (run.folder / "checkpoints" / "step-abc.pt").write_bytes(b"")
    assert run.log_tail() == "" and run.checkpoints() == []


def test_pauses_do_not_count_as_training(run, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("sam3_lora.runs.writer.time.monotonic", lambda: now[0])

    def pass_time(writer, seconds, **changes):
        now[0] += seconds
        writer.update(force=True, **changes)

    with run.writing() as writer:
        pass_time(writer, 10, state="running")
        pass_time(writer, 5, state="paused")
        pass_time(writer, 300)
        pass_time(writer, 300, state="running")
        pass_time(writer, 7, state="stopped")
    assert run.status().trained_seconds == pytest.approx(22)


def test_a_run_that_is_made_ready_shows_no_speed_of_before(run):
    with run.writing() as writer:
        writer.update(force=True, state="running", eta_seconds=9.0, images_per_second=3.0)
    with run.writing():
        assert (run.status().eta_seconds, run.status().images_per_second) == (None, None)


def test_a_folder_that_is_renamed_under_its_writer_is_named(run):
    with pytest.raises(RunError, match="is gone: it was renamed"), run.writing() as writer:
        run.folder.rename(run.folder.with_name("elsewhere"))
        writer.update(force=True, step=1)


def test_a_run_that_goes_on_keeps_what_is_known_of_it(run):
    with run.writing() as writer:
        writer.update(force=True, state="stopped", step=7, total_steps=9, best_validation_loss=1.5)
    with pytest.raises(ValueError), run.writing():
        raise ValueError("it cannot be resumed")
    status = run.status()
    assert (status.state, status.step, status.total_steps, status.best_validation_loss) == ("failed", 7, 9, 1.5)


@pytest.fixture
def finished(run):
    """A run that has ended, with an adapter."""
    with run.writing() as writer:
        writer.row(kind="step", step=1, total=1.0, terms={})
        writer.update(force=True, state="finished")
    adapter = run.folder / "adapters" / "best"
    adapter.mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors", "README.md"):
        (adapter / name).write_text("{}")
    return run


def test_a_run_is_renamed_with_its_time_kept(finished):
    renamed = finished.rename("better name")
    assert renamed.name == finished.name[:16] + "better-name"
    assert renamed.config.output.name == "better name"
    assert not finished.folder.exists() and renamed.status().state == "finished"
    other = Run.create(renamed.config.with_settings({"output.name": "other"}))
    with other.writing() as writer:
        writer.update(force=True, state="stopped")
    taken = renamed.folder.with_name(other.name[:16] + "taken")
    taken.mkdir()
    with pytest.raises(RunError, match="another run"):
        other.rename("taken")
    with pytest.raises(ConfigError, match=r"^'\.\./out' cannot be a run's name"):
        other.rename("../out")


def test_a_run_is_deleted_but_never_while_it_is_trained(finished):
    with finished.writing() as writer:
        writer.update(force=True, state="running")
        for forbidden in (finished.delete, lambda: finished.rename("x")):
            with pytest.raises(RunError, match="being trained"):
                forbidden()
        writer.update(force=True, state="stopped")
    finished.delete()
    assert not list(finished.folder.parent.iterdir())


def test_an_archive_holds_what_is_worth_keeping(finished, tmp_path):
    (finished.folder / "checkpoints").mkdir()
    (finished.folder / "checkpoints" / "step-00000001.pt").write_bytes(b"large")
    (finished.folder / "adapters" / ".best-half").mkdir()
    (finished.folder / "adapters" / ".best-half" / "x").write_text("half")
    path = zip_run(finished.folder, tmp_path)
    assert path == tmp_path / f"{finished.name}.zip"
    with zipfile.ZipFile(path) as archive:
        names = {name.removeprefix(f"{finished.name}/") for name in archive.namelist()}
        assert archive.testzip() is None
    adapter = {f"adapters/best/{name}" for name in ("adapter_config.json", "adapter_model.safetensors", "README.md")}
    assert names == {"config.yaml", "metrics.jsonl", "log.txt", "status.json"} | adapter
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        zip_run(finished.folder, tmp_path / "file" / "a.zip")


def test_two_runs_are_compared_by_their_settings(run):
    other = Run.create(run.config.with_settings({"training.learning_rate": 1e-3, "lora.rank": 4}))
    assert run.differences(other) == {"training.learning_rate": (5e-4, 1e-3), "lora.rank": (16, 4)}
    assert run.differences(run) == {}


def test_a_paused_run_is_active_and_can_be_stopped(run):
    with run.writing() as writer:
        writer.update(force=True, state="paused")
        assert run.status().active and run.status().state == "paused"
        run.requests.add("pause")
        run.requests.add("continue")
        assert run.requests.pending() == frozenset()
        run.requests.add("discard")
        assert run.status().state == "stopping"


def test_what_a_killed_writer_left_half_written_is_swept_up(run):
    with run.writing():
        pass
    half = run.folder / "adapters" / ".best-abc" / "new"
    half.mkdir(parents=True)
    (run.folder / "checkpoints").mkdir()
    (run.folder / "checkpoints" / "step-00000002.tmp").write_bytes(b"half")
    with run.writing():
        pass
    assert not half.exists() and not list((run.folder / "checkpoints").iterdir())
