"""A process that dies, or is refused, at any step of any write leaves the old file or the new one, never half of it."""

import errno
import os
import resource
import shutil

import pytest

from sam3_lora.demo.broken_copy import GUIDE
from sam3_lora.errors import Sam3LoraError
from sam3_lora.files import sweep
from tests.faults import at_each_step
from tests.writers import NEW, OLD, WRITERS, in_environment, write_broken_copy


@pytest.fixture(scope="module", autouse=True)
def _sources(tmp_path_factory):
    with in_environment(SOURCES=tmp_path_factory.mktemp("sources")):
        yield


@pytest.fixture(params=WRITERS)
def writer(request):
    return WRITERS[request.param]


def test_what_a_process_that_is_killed_leaves_is_old_or_new(writer, tmp_path):
    writer.write(tmp_path, OLD)
    seen, steps = [], []

    def look(step, path):
        steps.append(step)
        left = tmp_path.parent / f"left-{len(steps)}"
        shutil.copytree(tmp_path, left)
        seen.append(writer.read(left))
        writer.write(left, NEW)  # the next process goes on from what is left
        assert writer.read(left) == NEW
        shutil.rmtree(left)

    with at_each_step(lambda step, path: look(step, path) if path.is_relative_to(tmp_path) else None):
        writer.write(tmp_path, NEW)
    assert set(seen) <= {OLD, NEW} and seen == sorted(seen)
    assert writer.read(tmp_path) == NEW
    assert writer.steps <= set(steps)
    assert not writer.synced or (steps.index("rename") > steps.index("fsync") and steps[-1] == "done")


@pytest.mark.parametrize(("number", "for_good"), [(errno.ENOSPC, False), (errno.EROFS, True)])
def test_a_full_disk_or_one_that_is_read_only_leaves_old_or_new(writer, tmp_path, number, for_good):
    writer.write(tmp_path, OLD)
    count, step = 1, 0
    while step < count:
        steps = []

        def refuse(name, path, steps=steps, at=step):
            steps.append(name)
            if len(steps) == at + 1 or (for_good and len(steps) > at):
                raise OSError(number, "refused", str(path))

        try:
            with at_each_step(refuse):
                writer.write(tmp_path, NEW)
        except (OSError, RuntimeError, Sam3LoraError):
            assert writer.read(tmp_path) in (OLD, NEW)
        else:  # what need not be written, or was already
            assert writer.read(tmp_path) in (OLD, NEW)
        if not for_good:
            assert not list(tmp_path.rglob("*.tmp"))
        sweep(tmp_path, older_than_s=0)
        writer.write(tmp_path, OLD) if writer.read(tmp_path) == NEW and writer is not WRITERS["hashes"] else None
        count, step = max(count, len(steps)), step + 1
    writer.write(tmp_path, NEW)
    assert writer.read(tmp_path) == NEW


def test_a_file_that_cannot_grow_leaves_old_or_new(writer, tmp_path):
    """Refused by the system, so at any write, by whichever library: halfway through the largest file."""
    for folder in ("first", "then"):
        (tmp_path / folder).mkdir()
    writer.write(tmp_path / "first", NEW)
    largest = max(path.stat().st_size for path in (tmp_path / "first").rglob("*") if path.is_file())
    folder = tmp_path / "then"
    writer.write(folder, OLD)
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 2, most))
    try:
        writer.write(folder, NEW)
    except (Sam3LoraError, OSError) as error:
        assert "\n" not in str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
    assert writer.read(folder) == OLD
    assert not list(folder.rglob("*.tmp"))
    writer.write(folder, NEW)
    assert writer.read(folder) == NEW


def test_a_broken_copy_that_is_being_replaced_is_old_or_new_or_none(tmp_path):
    """None between the two, and the next one may be made."""
    write_broken_copy(tmp_path, OLD)
    seen = []

    def look(step, path):
        seen.append(step)
        copy = tmp_path / "copy"
        assert not copy.exists() or ((copy / GUIDE).exists() and (copy / "version").read_text() == str(OLD))

    with at_each_step(look):
        write_broken_copy(tmp_path, NEW)
    assert seen == ["make", "rename", "rename"]


def test_leftovers_are_swept_when_they_are_old(tmp_path):
    (tmp_path / ".a-1.tmp").write_bytes(b"half")
    (tmp_path / ".b-2.tmp").mkdir()
    (tmp_path / "kept.tmp").write_bytes(b"")
    sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    os.utime(tmp_path / ".a-1.tmp", (0, 0))
    os.utime(tmp_path / ".b-2.tmp", (0, 0))
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.tmp"]


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("report", ".report.md-1-2.tmp"),
        ("preferences", ".app.json-1-2.tmp"),
        ("predictions", ".a-overlay.png-1-2.tmp"),
        ("evaluation", "evaluations/.20260102-100000.json-1-2.tmp"),
        ("adapter", ".adapter-abc.tmp"),
    ],
)
def test_what_was_left_long_ago_is_swept_by_the_next_who_writes_it(name, left, tmp_path):
    """Where no run sweeps its own folder."""
    (tmp_path / "evaluations").mkdir()
    for path in (tmp_path / left, tmp_path / ".another-1-2.tmp"):
        path.write_bytes(b"half")
        os.utime(path, (0, 0))
    WRITERS[name].write(tmp_path, NEW)
    assert [path.name for path in tmp_path.rglob(".*.tmp")] == [".another-1-2.tmp"]
