"""A pipe, a folder or a circular link in place of any of a run's files neither blocks nor breaks who watches it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sam3_lora.errors import Sam3LoraError
from sam3_lora.runs.run import Run

OLD_RUN = next(path for path in (Path(__file__).parent / "old_run").iterdir() if path.is_dir())
FILES = (
    "config.yaml",
    "status.json",
    "metrics.jsonl",
    "log.txt",
    "auto.json",
    "held_out.json",
    "samples/samples.jsonl",
)
MAKE = {"pipe": os.mkfifo, "folder": Path.mkdir, "circle": lambda path: path.symlink_to(path.name)}


@pytest.mark.timeout(60)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("name", FILES)
def test_a_run_with_a_special_file_is_read(name, kind, tmp_path):
    folder = Path(shutil.copytree(OLD_RUN, tmp_path / OLD_RUN.name))
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    MAKE[kind](path)
    run = Run(folder)
    assert run.status().state and run.log_tail() is not None
    assert isinstance(run.metrics()[0], list) and isinstance(run.samples(), list)
    refused = 0
    for read in (lambda: run.config, run.auto_values, run.held_out):
        try:
            read()
        except Sam3LoraError:
            refused += 1
    assert refused == (name in ("config.yaml", "auto.json", "held_out.json"))
