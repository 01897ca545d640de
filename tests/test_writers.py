"""A process that dies, or is refused, at any step of any write leaves the old file or the new one, never half of it."""

import errno
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from sam3_lora.config import RunConfig
from sam3_lora.data.content_hashes import ContentHashes
from sam3_lora.data.splits.holdout import HeldOut
from sam3_lora.data.vision_features import FeatureFiles
from sam3_lora.errors import Sam3LoraError
from sam3_lora.files import LineFile, atomic_folder, sweep
from sam3_lora.runs.archive import zip_run
from sam3_lora.runs.auto_values import AutoValue, read_auto_values, write_auto_values
from sam3_lora.runs.metrics import read_rows
from sam3_lora.runs.run import Run
from sam3_lora.runs.samples import read_samples, write_sample
from sam3_lora.runs.status import Status, read_status, write_status
from sam3_lora.train import checkpoint
from tests.faults import at_each_step

OLD, NEW = 1, 2  # what is written first, and then


@dataclass
class Writer:
    write: Callable[[Path, int], Any]
    read: Callable[[Path], Any]  # what was written; raises nothing
    synced: bool = False
    steps: frozenset[str] = frozenset({"open", "write", "rename"})


def features(folder: Path) -> FeatureFiles:
    return FeatureFiles("source", (4, 3), torch.float32, 10**9, folder)


def write_folder(folder: Path, version: int) -> None:
    with atomic_folder(folder / "adapter", sync=True, update=True) as written:
        (written / "weights").write_text(str(version) * 1000)


def read_folder(folder: Path) -> int | None:
    path = folder / "adapter" / "weights"
    return int(path.read_text()[0]) if path.exists() and len(path.read_text()) == 1000 else None


def write_checkpoint(folder: Path, version: int) -> None:
    with checkpoint.atomic_file(folder / "step.pt", sync=True) as file:
        checkpoint._write(file, {"version": torch.tensor(version)})


def write_config(folder: Path, version: int) -> None:
    Run(folder)._write_config(RunConfig().with_settings({"training.epochs": version}))


def write_archive(folder: Path, version: int) -> None:
    run = folder / "run"
    run.mkdir(exist_ok=True)
    (run / "log.txt").write_text(str(version))
    zip_run(run, folder / "run.zip")


def read_archive(folder: Path) -> int | None:
    if not (folder / "run.zip").exists():
        return None
    with zipfile.ZipFile(folder / "run.zip") as archive:
        return int(archive.read("run/log.txt"))


def write_hashes(folder: Path, version: int) -> None:
    (folder / f"image-{version}").write_bytes(bytes(version))
    hashes = ContentHashes(folder / "hashes")
    hashes.of(folder / f"image-{version}")
    hashes.save()


def read_hashes(folder: Path) -> int | None:
    path = folder / "hashes"
    return len(msgspec.msgpack.decode(path.read_bytes())) if path.exists() else None


def append(folder: Path, version: int) -> None:
    with LineFile(folder / "metrics.jsonl") as lines:
        lines.write(f'{{"kind": "step", "step": {version}, "total": 1.0, "terms": {{}}}}')


WRITERS = {
    "status": Writer(
        lambda folder, version: write_status(folder / "status.json", Status(step=version)),
        lambda folder: getattr(read_status(folder / "status.json"), "step", None),
    ),
    "config": Writer(write_config, lambda folder: Run(folder).config.training.epochs, synced=True),
    "auto values": Writer(
        lambda folder, version: write_auto_values(folder, (AutoValue("data.num_workers", version, "cores"),)),
        lambda folder: read_auto_values(folder)[0].value,
        synced=True,
    ),
    "held out": Writer(
        lambda folder, version: Run(folder).write_held_out(held_out(version)),
        lambda folder: Run(folder).held_out().of,
        synced=True,
    ),
    "checkpoint": Writer(
        write_checkpoint, lambda folder: int(checkpoint.read_checkpoint(folder / "step.pt")["version"]), synced=True
    ),
    "adapter": Writer(write_folder, read_folder, synced=True, steps=frozenset({"rename"})),
    "vision features": Writer(
        lambda folder, version: features(folder).save(folder / "f.safetensors", torch.full((4, 3), float(version))),
        lambda folder: int(features(folder).load(folder / "f.safetensors")[0, 0]),
    ),
    "hashes": Writer(write_hashes, read_hashes),
    "archive": Writer(write_archive, read_archive),
    "lines": Writer(
        append,
        lambda folder: read_rows(folder / "metrics.jsonl")[0][-1]["step"],
        steps=frozenset({"open", "write", "half"}),
    ),
    "samples": Writer(
        lambda folder, version: write_sample(folder / "samples", version, 0, "a.png", picture(), 1, 1),
        lambda folder: read_samples(folder / "samples")[-1].step,
    ),
}


def held_out(of: int) -> HeldOut:
    return HeldOut("train", "annotations.json", "digest", 0.1, 0, of, ("1.png",))


def picture():
    return torch.zeros(8, 8, 3, dtype=torch.uint8).numpy()


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


def test_leftovers_are_swept_when_they_are_old(tmp_path):
    import os

    (tmp_path / ".a-1.tmp").write_bytes(b"half")
    (tmp_path / ".b-2.tmp").mkdir()
    (tmp_path / "kept.tmp").write_bytes(b"")
    sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    os.utime(tmp_path / ".a-1.tmp", (0, 0))
    os.utime(tmp_path / ".b-2.tmp", (0, 0))
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.tmp"]
