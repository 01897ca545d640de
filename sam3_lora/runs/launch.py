"""Starts the process that trains a run by itself and outlives the app; keeps what it prints in the run's folder."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import sam3_lora
from sam3_lora.errors import RunError, explain_os_errors
from sam3_lora.files import open_regular
from sam3_lora.runs.run import Run
from sam3_lora.runs.status import read_status

OUTPUT_FILE = "process.log"
MAX_OUTPUT_BYTES = 256 * 1024
_POLL_S = 0.1
_TRIM_S = 5.0


def launch(run: Run) -> None:
    """Starts a process for a new run, or for one that can be resumed; returns while it still imports what it needs.

    It is in a session of its own: neither Ctrl-C in this terminal nor closing it reaches the process.

    Raises:
        RunError: the run is being trained or started already, or the process cannot be started.
    """
    with ExitStack() as stack:
        stack.enter_context(run.starting())
        process = _start(run)
        held = stack.pop_all()
    threading.Thread(target=_see_off, args=(run, process, held), name="launch", daemon=True).start()


def process_output(run: Run) -> str:
    """What the process of a run has printed last: at most 100 lines; "" if nothing."""
    try:
        with open_regular(run.folder / OUTPUT_FILE) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 16_384))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-100:]).strip()


def keep_output_short() -> None:
    """In the launched process: whenever its output has become too long, only what is printed afterwards is kept."""

    def trim() -> None:
        while True:
            time.sleep(_TRIM_S)
            with suppress(OSError):  # not a file, where somebody calls the command by hand
                if os.fstat(2).st_size > MAX_OUTPUT_BYTES:
                    os.ftruncate(2, 0)
                    os.lseek(2, 0, os.SEEK_SET)

    threading.Thread(target=trim, name="output", daemon=True).start()


def release_output() -> None:
    """In the launched process: prints into nothing from now on, since a folder with open files cannot be deleted."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)


def _start(run: Run) -> subprocess.Popen[bytes]:
    package = str(Path(sam3_lora.__file__).parent.parent)  # on the path of the app, whichever way it was started
    paths = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    failed = f"The process for the run {run.name} cannot be started"
    with (
        explain_os_errors(RunError, failed, "Make its folder writable, or free some memory"),
        (run.folder / OUTPUT_FILE).open("wb") as output,
    ):
        return subprocess.Popen(
            [sys.executable, "-m", "sam3_lora", "train-launched", "--", str(run.folder.absolute())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
            # On Windows, where there are no sessions: a console of its own, which nobody closes.
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0)
            | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )


def _see_off(run: Run, process: subprocess.Popen[bytes], held: ExitStack) -> None:
    """Holds the run until the process does it itself, waits for its end, and tells why if it never began."""
    with held:
        while not (began := _writes(run, process.pid)) and process.poll() is None:
            time.sleep(_POLL_S)
    code = process.wait()
    if began or (status := read_status(run.folder / "status.json")) is None or status.pid == process.pid:
        return
    with suppress(RunError), run.writing() as writer:  # unless another process was faster: then nothing is wrong
        output = process_output(run)
        writer.log(output)
        last = output.rpartition("\n")[2]
        raise RunError(
            f"The process that should train this run ended with code {code} before it could begin"
            + (f": {last}" if last else ""),
            f"Its output is in {run.folder / OUTPUT_FILE}",
        )


def _writes(run: Run, pid: int) -> bool:
    status = read_status(run.folder / "status.json")
    return status is not None and status.pid == pid and run.is_locked()
