"""The locks in a run's folder: who writes the run, and who is starting a process for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout, lock_descriptor

from sam3_lora.errors import RunError
from sam3_lora.files import open_regular

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# "missing": there is no such file; "unknown": there is one, but it cannot be opened or asked.
LockState = Literal["held", "free", "missing", "unknown"]


def lock_state(path: Path) -> LockState:
    """Whether a process holds a lock, by no clock and on any machine that shares it. Raises nothing.

    The file is opened for reading only, so that a run of another user, or on a disk that is read-only, can be watched.
    """
    try:
        file = open_regular(path)
    except FileNotFoundError:
        return "unknown" if os.path.islink(path) else "missing"
    except OSError:
        return "unknown"
    with file:
        try:
            return "free" if _try(file.fileno()) else "held"
        except OSError:  # a file system without locks
            return "unknown"


def is_held(path: Path) -> bool:
    """Whether a process is known to hold a lock. Raises nothing."""
    return lock_state(path) == "held"


@contextmanager
def hold(path: Path, held: str) -> Iterator[None]:
    """Holds a lock.

    Raises:
        RunError: with the sentence `held` if another process holds it; or it cannot be opened.
    """
    fix = how_to_open(path)
    if lock_state(path) == "unknown":
        raise RunError(f"The lock {path} cannot be opened", fix)
    try:
        # A reader that checks the lock holds it for an instant itself.
        lock = FileLock(path, preserve_lock_file=True, thread_local=False).acquire(timeout=2)
    except Timeout:
        raise RunError(held, "Wait for it or stop it") from None
    except OSError as error:
        raise RunError(f"The lock {path} cannot be opened: {error.strerror or error}", fix) from error
    with lock:
        yield


def how_to_open(path: Path) -> str:
    """What to do about a lock that cannot be opened."""
    return f"Make {path.parent} and the file {path.name} in it writable; if nothing trains this run, delete {path.name}"


def _try(descriptor: int) -> bool:
    """Locks a file until it is closed; False if another process has locked it."""
    if fcntl is None:
        return lock_descriptor(descriptor, blocking=False)
    try:
        # Shared: two who ask at the same time do not take each other for the one who holds it.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # some file systems answer with the second
        return False
    return True
