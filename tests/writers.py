"""Everything that this package writes: how a test writes it in two versions, and reads which of them is there."""

import functools
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sam3_lora.cli.output import write_report
from sam3_lora.cli.predict import _write_images
from sam3_lora.config import ASSETS, AdapterConfig, RunConfig
from sam3_lora.data.content_hashes import ContentHashes
from sam3_lora.data.formats.png_masks import convert_masks
from sam3_lora.data.index import cache
from sam3_lora.data.splits import holdout
from sam3_lora.data.splits.holdout import HeldOut
from sam3_lora.data.vision_features import FeatureFiles
from sam3_lora.demo.broken_copy import make_broken_copy
from sam3_lora.evaluate import store
from sam3_lora.evaluate.gain_loss import card
from sam3_lora.files import LineFile
from sam3_lora.model import lora
from sam3_lora.model.adapter_files.archive import unpack
from sam3_lora.model.merge import merge_into_folder
from sam3_lora.runs.archive import zip_run
from sam3_lora.runs.auto_values import AutoValue, read_auto_values, write_auto_values
from sam3_lora.runs.metrics import read_rows
from sam3_lora.runs.run import Run
from sam3_lora.runs.samples import read_samples, write_sample
from sam3_lora.runs.status import Status, read_status, write_status
from sam3_lora.train import checkpoint
from sam3_lora.ui.preferences import change_preferences, load_preferences
from tests.factories import tiny_processor

OLD, NEW = 1, 2  # what is written first, and then
WEIGHTS = "adapter_model.safetensors"
FOLDER = frozenset({"make", "rename"})


@dataclass
class Writer:
    write: Callable[[Path, int], Any]
    read: Callable[[Path], Any]  # what was written; raises nothing
    synced: bool = False
    steps: frozenset[str] = frozenset({"open", "write", "rename"})


def features(folder: Path) -> FeatureFiles:
    return FeatureFiles("source", (4, 3), torch.float32, 10**9, folder)


@functools.cache
def adapted() -> Any:
    """A tiny model with an adapter."""
    return lora.attach(tiny_model(), AdapterConfig(rank=1, components=["scoring"]))


def tiny_model() -> Any:
    from transformers import Sam3Model

    from scripts.make_demo_model import demo_config

    return Sam3Model(demo_config(hidden_size=16, vision_size=32, vision_layers=2))


def write_adapter(folder: Path, version: int) -> None:
    for name, parameter in adapted().named_parameters():
        if "lora_" in name:
            torch.nn.init.constant_(parameter, version / 64)
    lora.save(adapted(), folder / "adapter", "demo", card=str(version))


def read_adapter(folder: Path) -> int:
    values = {value for each in load_file(folder / "adapter" / WEIGHTS).values() for value in each.unique().tolist()}
    assert json.loads((folder / "adapter" / "adapter_config.json").read_text())["peft_type"] == "LORA"
    return int(64 * values.pop()) if len(values) == 1 else 0


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


@functools.cache
def sources(root: Path) -> Path:
    """What the writers of folders work on: a base with an adapter, an archive of it, an image with its mask."""
    tiny_model().save_pretrained(root / "base")
    tiny_processor().save_pretrained(root / "base")
    write_adapter(root, NEW)
    with zipfile.ZipFile(root / "adapter.zip", "w") as archive:
        for name in ("adapter_config.json", WEIGHTS):
            archive.write(root / "adapter" / name, name)
    for name, value in (("images", 200), ("masks", 1)):
        (root / name).mkdir()
        Image.fromarray(np.full((9, 9, 3)[: 3 if value > 1 else 2], value, np.uint8)).save(root / name / "a.png")
    return root


def new_folder(write: Callable[[Path, Path], Any]) -> Callable[[Path, int], None]:
    """A writer of a folder that must not be there: OLD is none."""

    def write_version(folder: Path, version: int) -> None:
        shutil.rmtree(folder / "out", ignore_errors=True)
        if version == NEW:
            write(sources(Path(os.environ["SOURCES"])), folder / "out")

    return write_version


def whole(*names: str) -> Callable[[Path], int | None]:
    """Reads such a folder: it is not there, or has files of these endings."""

    def read(folder: Path) -> int | None:
        found = [path.name for path in folder.glob("out/**/*") if "/." not in path.as_posix()]
        return OLD if not found else NEW if all(any(one.endswith(name) for one in found) for name in names) else None

    return read


def merge(source: Path, out: Path) -> None:
    merge_into_folder(str(source / "base"), source / "adapter", out)


def unpack_archive(source: Path, out: Path) -> None:
    with (source / "adapter.zip").open("rb") as archive:
        unpack(archive, out, lambda folder, place: None)


def write_broken_copy(folder: Path, version: int) -> None:
    make_broken_copy(ASSETS / "demo" / "dataset", folder / "copy")
    (folder / "copy" / "version").write_text(str(version))


def write_evaluation(folder: Path, version: int) -> None:
    report = store.read_report(Path(__file__).parent / "evaluate" / "old_report.json")
    store.save(msgspec.structs.replace(report, made=f"2026-01-0{version}T10:00:00"), folder / store.FOLDER)


def write_model_card(folder: Path, version: int) -> None:
    """An evaluation in the model card of a run's adapter."""
    run = folder / "run"
    adapter = run / "adapters" / "best"
    if not adapter.exists():
        adapter.mkdir(parents=True)
        Run(run)._write_config(RunConfig())
        write_status(run / "status.json", Status(state="finished"))
        (adapter / card.CARD).write_text("An adapter.\n" * 5000)  # the largest of the files
    report = store.read_report(Path(__file__).parent / "evaluate" / "old_report.json")
    report = msgspec.structs.replace(report, adapter_folder=str(adapter), verdict=f"V{version}")
    assert card.write_card(report)


def read_model_card(folder: Path) -> int:
    (found,) = re.findall(r"V(\d)", (folder / "run" / "adapters" / "best" / card.CARD).read_text())
    return int(found)


def write_index(folder: Path, version: int) -> None:
    def build(writer: cache.IndexWriter) -> None:
        writer.add_text(b"[]")
        writer.finish({"rows": np.arange(9)}, {"watched": {}, "token": str(version)})

    cache._built(folder / "a.index", build)


@contextmanager
def in_environment(**variables: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, str(value))
        yield


def write_preferences(folder: Path, version: int) -> None:
    with in_environment(SAM3_LORA_CONFIG=folder):
        change_preferences(dismissed=float(version))


def read_preferences(folder: Path) -> int:
    with in_environment(SAM3_LORA_CONFIG=folder):
        return int(load_preferences().dismissed)


def write_groups(folder: Path, version: int) -> None:
    holdout.keep_groups(folder / "a.groups", np.array([version]), np.array([version]))


def read_groups(folder: Path) -> int | None:
    found = holdout.kept_groups(folder / "a.groups", 1)
    return None if found is None else int(found[0][0])


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
    "adapter": Writer(write_adapter, read_adapter, synced=True, steps=FOLDER),
    "merged model": Writer(new_folder(merge), whole(".safetensors", "README.md", "tokenizer.json"), steps=FOLDER),
    "uploaded adapter": Writer(new_folder(unpack_archive), whole(".safetensors", ".json"), steps=FOLDER),
    "converted masks": Writer(
        new_folder(lambda source, out: convert_masks(source / "images", source / "masks", out, {"1": "crack"})),
        whole(".png", ".json"),
        steps=FOLDER,
    ),
    "evaluation": Writer(
        write_evaluation, lambda folder: int(store.stored_reports([folder])[0].summary.made[len("2026-01-") :][:2])
    ),
    "model card": Writer(write_model_card, read_model_card),
    "index": Writer(write_index, lambda folder: int(cache.Index.open(folder / "a.index").words["token"])),
    "groups of copies": Writer(write_groups, read_groups),
    "report": Writer(
        lambda folder, version: write_report(folder / "report.md", f"{version}\n" * 100),
        lambda folder: int(*set((folder / "report.md").read_text().split())),
    ),
    "preferences": Writer(write_preferences, read_preferences),
    "predictions": Writer(
        lambda folder, version: _write_images(folder, "a.png", picture() + version, {}),
        lambda folder: int(np.asarray(Image.open(folder / "a-overlay.png")).max()),
    ),
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
    return np.zeros((8, 8, 3), np.uint8)
