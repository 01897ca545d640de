"""Reading: regular files only, however they are named, and no more of them than expected."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sam3_lora import files
from sam3_lora.files import open_regular, read_file, require_regular


def bind_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(os.path.relpath(path))  # a socket's path is short


SPECIAL: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "socket": bind_socket,
    "folder": Path.mkdir,
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to(os.ttyname(os.openpty()[1])),
    "dangling link": lambda path: path.symlink_to("nothing"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "nothing": lambda path: None,
}


@pytest.mark.parametrize("make", SPECIAL.values(), ids=SPECIAL)
def test_a_special_file_is_refused_at_once(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "file"
    make(path)
    for read in (open_regular, require_regular, lambda path: read_file(path, 10)):
        with pytest.raises(OSError) as error:
            read(path)
        assert error.value.strerror and error.value.filename


def test_a_file_and_a_link_to_it_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to("file")
    assert read_file(tmp_path / "link", 10) == b"0123456789"
    with pytest.raises(OSError, match="larger"):
        read_file(str(tmp_path / "file"), 9)


def test_a_pipe_that_replaces_a_file_between_check_and_opening_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(files, "require_regular", lambda path: None)
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    with pytest.raises(OSError, match="regular"):
        open_regular(tmp_path / "pipe")
    assert not before or len(os.listdir("/proc/self/fd")) == before, "it is closed again"


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs Linux")
def test_a_file_of_the_kernel_is_bounded_although_its_size_is_0() -> None:
    assert os.path.getsize("/proc/self/stat") == 0
    assert read_file("/proc/self/stat", 10_000)
    with pytest.raises(OSError, match="larger"):
        read_file("/proc/self/stat", 5)


OWN_FILES = {  # read what this project or a package has written itself, never what a user names
    "demo/broken_copy.py",
    "demo/faults/files.py",
    "model/base_files/processor.py",
    "monitor/healthy_ranges.py",
    "ui/components/javascript.py",
    "ui/components/live_chart.py",
    "ui/train/controls.py",
    "words.py",
}


def test_everything_else_reads_files_through_these_functions() -> None:
    opens = re.compile(r"""\.read_bytes\(|\.read_text\(|open\([^()]*["']rb?["']""")
    root = Path(files.__file__).parent
    found = {path.relative_to(root).as_posix() for path in root.rglob("*.py") if opens.search(path.read_text("utf-8"))}
    assert found - OWN_FILES == {"files.py"}
    assert found >= OWN_FILES, "no longer needed"
