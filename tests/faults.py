"""Calls a function at every step of every write of `sam3_lora.files`, which may look at the disk or raise an error.

What the disk holds at a step is what a process that is killed there leaves behind.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from sam3_lora import files

Step = Literal["open", "make", "write", "half", "fsync", "rename", "folder", "delete", "done"]
OnStep = Callable[[Step, Path], None]


@contextmanager
def at_each_step(on_step: OnStep) -> Iterator[None]:
    """Calls on_step before each step, with the file it is about.

    "make" is before a folder to be filled is made, "half" in the middle of a write, "folder" before names in a folder
    are put on the disk, "done" after it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "open", _open_with(on_step), raising=False)
        patch.setattr(files, "os", _Os(on_step))
        yield


class _Raw(io.FileIO):
    """A file whose writes have steps."""

    def __init__(self, path: Path, mode: str, on_step: OnStep) -> None:
        super().__init__(path, mode)
        self.path, self.on_step = Path(path), on_step

    def write(self, data: Any) -> int:
        data = memoryview(data).cast("B")
        self.on_step("write", self.path)
        half = len(data) // 2
        if half:
            super().write(data[:half])
            self.on_step("half", self.path)
        return half + super().write(data[half:])


def _open_with(on_step: OnStep) -> Callable[..., Any]:
    def open_(path: Path, mode: str = "r", buffering: int = -1, opener: Any = None) -> Any:
        if not set(mode) & set("wa"):
            return open(path, mode, buffering, opener=opener)
        on_step("open", Path(path))
        raw = _Raw(path, mode.replace("b", ""), on_step)
        return raw if buffering == 0 else io.BufferedWriter(raw)

    return open_


class _Os:
    """The module os, with steps."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step
        self._folders: dict[int, Path] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Any, flags: int, *rest: Any) -> int:
        if os.path.isdir(path):
            self._on_step("folder", Path(path))
        return os.open(path, flags, *rest)

    def mkdir(self, path: Any) -> None:
        self._on_step("make", Path(path))
        os.mkdir(path)

    def fsync(self, descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        self._on_step("done" if path.is_dir() else "fsync", path)
        os.fsync(descriptor)

    def replace(self, source: Any, target: Any) -> None:
        self._on_step("rename", Path(target))
        os.replace(source, target)

    def unlink(self, path: Any) -> None:
        self._on_step("delete", Path(path))
        os.unlink(path)
