"""The locks in a run's folder: who writes the run, and who is starting a process for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sam3_lora.errors import RunError


def is_held(path: Path) -> bool:
    """Whether somebody holds a lock."""
    if not path.exists():
        return False
    try:
        with _lock(path).acquire(blocking=False):
            return False
    except Timeout:
        return True


@contextmanager
def hold(path: Path, held: str) -> Iterator[None]:
    """Holds a lock. Raises RunError with the sentence `held` if another process does."""
    try:
        # A reader that checks the lock holds it for an instant itself.
        lock = _lock(path).acquire(timeout=2)
    except Timeout:
        raise RunError(held, "Wait for it or stop it") from None
    with lock:
        yield


def _lock(path: Path) -> FileLock:
    return FileLock(path, preserve_lock_file=True, thread_local=False)
