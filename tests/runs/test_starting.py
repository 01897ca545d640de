"""The time between the start of a process for a run and its first write: the run is being prepared."""

import time

import pytest

from sam3_lora.config import RunConfig
from sam3_lora.errors import RunError
from sam3_lora.runs.run import Run


@pytest.fixture
def run(tmp_path):
    return Run.create(RunConfig().with_settings({"output.runs": str(tmp_path / "runs")}))


@pytest.fixture
def interrupted(run):
    with pytest.raises(ZeroDivisionError), run.writing() as writer:
        writer.update(force=True, state="running", step=3)
        raise ZeroDivisionError
    return run


@pytest.mark.parametrize("seconds", [-1e6, 1e6])
def test_a_run_whose_process_is_starting_is_being_prepared_at_any_time_of_day(interrupted, monkeypatch, seconds):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + seconds)
    with interrupted.starting():
        assert (interrupted.status().state, interrupted.status().launched) == ("preparing", True)
        assert interrupted.resume_obstacle() == "active"
        with pytest.raises(RunError, match="being trained"):
            interrupted.delete()
    assert interrupted.status().state == "failed"


def test_nobody_starts_or_trains_a_run_that_is_being_started_or_trained(run):
    with run.starting():
        for hold in (Run(run.folder).starting, Run(run.folder).writing):
            with pytest.raises(RunError, match="being started"), hold():
                pass
    with run.writing():
        for hold in (Run(run.folder).starting, Run(run.folder).writing):
            with pytest.raises(RunError, match="already being trained"), hold():
                pass
    with run.starting(), run.writing(launched=True):
        assert run.status().launched


def test_requests_while_a_process_starts_are_for_it_but_older_ones_are_not(interrupted):
    interrupted.requests.add("pause")
    with interrupted.starting():
        assert not interrupted.requests.pending()
        interrupted.requests.add("stop")
        with interrupted.writing(launched=True):
            assert interrupted.requests.pending() == {"stop"}
    with interrupted.writing():
        assert not interrupted.requests.pending() and not interrupted.status().launched
