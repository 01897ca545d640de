"""Reads regular files only, and writes files and folders that appear under their name whole or not at all."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

MB = 1_000_000
LEFTOVER_S = 86_400  # age of what killed processes left; younger files may still be written
_KEPT_OF_NAME = 40  # letters, of up to four bytes; a name has at most 255 of these
# A pipe without a writer, or a file of the kernel without news, answers at once instead of blocking for ever; a
# terminal does not become that of this process.
_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)


def user_path(path: str | Path) -> Path:
    """A path that a person gave, in which "~" is the home folder; as it is where that names nobody.

    No error: whoever opens the path says in words that there is nothing.
    """
    try:
        return Path(os.path.expanduser(path))
    except ValueError:  # a name that no system can hold
        return Path(path)


def open_regular(path: str | Path) -> BufferedReader:
    """Opens a regular file to read its bytes. Links to one are followed.

    Raises:
        OSError: it cannot be opened, or is a pipe, a device, a socket or a folder, which block or never end.
    """
    return open(path, "rb", opener=_open_regular)


def read_file(path: str | Path, limit: int) -> bytes:
    """The content of a regular file.

    Args:
        path: of the file.
        limit: bytes that it may have at most: more than any real file of its kind.

    Raises:
        OSError: as for :func:`open_regular`, or it is larger than `limit`.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)  # not by its size: that of the kernel's files is 0
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit / MB:g} MB", str(path))
    return content


def require_regular(path: str | Path) -> None:
    """Raises OSError if a path is no regular file or link to one: for files that a library opens by their names."""
    _require_regular(os.stat(path), path)


def _open_regular(path: str, flags: int) -> int:
    require_regular(path)  # some devices act on being opened
    descriptor = os.open(path, flags | _WITHOUT_WAITING)
    try:
        _require_regular(os.fstat(descriptor), path)  # it may have been replaced
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _require_regular(status: os.stat_result, path: str | Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file but a pipe, a device or a socket", str(path))


@contextmanager
def atomic_file(path: Path, *, sync: bool = False) -> Iterator[BinaryIO]:
    """A file to write, in a hidden ``.tmp`` beside `path` that is renamed to it at the end, and deleted after an error.

    A process that is killed leaves the ``.tmp``, which :func:`sweep` deletes: where such files are written that is up
    to the caller.

    Args:
        path: where the file appears; replaces an earlier one. Its folder must exist.
        sync: wait until it is on the disk, so that a machine that loses its power leaves no empty file.

    Raises:
        OSError: it cannot be written.
    """
    # Others may write the same file at the same time.
    partial = _hidden(path, f"{os.getpid()}-{threading.get_ident()}")
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):  # where nothing could be written there is nothing to delete
            os.unlink(partial)
        raise
    if sync:
        _sync_folder(path.parent)


def atomic_write(path: Path, data: str | bytes, *, sync: bool = False) -> None:
    """Writes a small file (text in UTF-8) so that no reader ever sees half of it; see :func:`atomic_file`.

    What was left of the same file long ago is deleted.
    """
    _sweep_for(path)
    with atomic_file(path, sync=sync) as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)


@contextmanager
def atomic_folder(path: Path, *, sync: bool = False, update: bool = False, replace: bool = False) -> Iterator[Path]:
    """A folder to fill, in a hidden one beside `path`; it is moved to `path` at the end, and deleted after an error.

    Args:
        path: where the folder appears; nothing, or an empty folder, is there. Its parent must exist.
        sync: wait until it is on the disk.
        update: the files of a folder that is there are replaced instead, each as a whole.
        replace: a folder that is there is deleted; a process that is killed between the two leaves none.

    Raises:
        OSError: it cannot be written, or `path` is a folder that is not empty and is not to be updated or replaced.
    """
    hidden = _hidden(path, "")
    _sweep_for(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=hidden.stem, suffix=hidden.suffix) as temporary:
        written = Path(temporary) / "new"  # a temporary folder itself is for its owner only
        os.mkdir(written)
        yield written
        if sync:
            for file in written.rglob("*"):
                if file.is_file():
                    _sync_file(file)
        if update and path.is_dir():
            for file in sorted(written.iterdir()):
                os.replace(file, path / file.name)
        else:
            if path.is_dir() and replace:
                os.replace(path, Path(temporary) / "old")  # deleted where it is, half of it would be in the way
            elif path.is_dir():
                path.rmdir()
            os.replace(written, path)
    if sync:
        _sync_folder(path)
        _sync_folder(path.parent)


def follow_umask(folder: Path) -> None:
    """Gives the files in a folder the permissions of new ones: safetensors creates its own for their owner only.

    Raises OSError.
    """
    probe = folder / ".mode"
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for file in folder.iterdir():
        if file.is_file():
            file.chmod(mode)


def check_writable(path: Path) -> None:
    """Tries a small file in the folder that a path leads to, or in the nearest one above it that exists.

    To be called before long work whose result goes there; nothing is left behind. Raises OSError.
    """
    folder = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(4096))
        file.flush()


class LineFile:
    """A file that lines are appended to, each by one write: one that is killed meanwhile leaves half of the last line.

    A half line of an earlier writer is ended first, so that it does not swallow the next one.

    Args:
        path: made if it is not there.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "a+b", buffering=0)  # noqa: SIM115  closed by close()
        self._is_torn = False
        if self._file.seek(0, os.SEEK_END):
            self._file.seek(-1, os.SEEK_END)
            self._is_torn = self._file.read(1) != b"\n"

    def write(self, line: str | bytes) -> None:
        """Appends a line, which is given without its end. Raises OSError."""
        line = line.encode("utf-8", "replace") if isinstance(line, str) else line
        rest = memoryview((b"\n" if self._is_torn else b"") + line + b"\n")
        self._is_torn = True
        while rest:  # a disk that fills up takes a part
            rest = rest[self._file.write(rest) or 0 :]
        self._is_torn = False

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> LineFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sweep(folder: Path, pattern: str = ".*.tmp", older_than_s: float = LEFTOVER_S) -> None:
    """Deletes what killed processes have left half written. Raises nothing.

    Args:
        folder: where.
        pattern: of their names.
        older_than_s: what is younger may still be written; 0 where nobody else writes.
    """
    with suppress(OSError):
        for left in list(folder.glob(pattern)):
            with suppress(OSError):
                if older_than_s and time.time() - left.lstat().st_mtime < older_than_s:
                    continue
                if left.is_dir() and not left.is_symlink():
                    shutil.rmtree(left)
                else:
                    left.unlink()


def _sweep_for(path: Path) -> None:
    """Deletes what killed processes have left of this file or folder."""
    hidden = _hidden(path, "")
    sweep(path.parent, f"{glob.escape(hidden.stem)}*{hidden.suffix}")


def _hidden(path: Path, distinction: str) -> Path:
    """The name under which something is written before it is called `path`; not longer than names may be."""
    return path.with_name(f".{path.name[:_KEPT_OF_NAME]}-{distinction}.tmp")


def _sync_file(path: Path) -> None:
    with open(path, "r+b") as file:  # Windows syncs only what is open for writing
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Puts the names in a folder on the disk, where the system can: the files themselves are there already."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
