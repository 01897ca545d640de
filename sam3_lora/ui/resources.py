"""What is expensive and shared by all browser tabs: datasets, models, the training job, the app's log."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from sam3_lora.config import ASSETS, DEMO, RunConfig
from sam3_lora.errors import Sam3LoraError
from sam3_lora.runs.run import list_runs
from sam3_lora.ui import state

if TYPE_CHECKING:
    from transformers import Sam3Processor

    from sam3_lora.data.dataset import Dataset
    from sam3_lora.predict.predictor import Predictor
    from sam3_lora.ui.train_job import TrainJob


_WATCHED = (".json", ".yaml", ".yml")  # files that a change of the dataset is seen by
_MAX_WATCHED = 200  # in one folder
_KEPT_DATASETS = 4
_AT_ONCE_S = 0.4
_LONG_S, _PAUSE = 0.05, 20  # a look that takes longer is followed by a pause so many times as long


def runs_folder() -> Path:
    """The folder that holds the runs: the environment variable SAM3_LORA_RUNS, otherwise ``runs``."""
    return Path(os.environ.get("SAM3_LORA_RUNS", "runs"))


@st.cache_resource(show_spinner=False)
def get_train_job() -> TrainJob:
    """The training job of this process."""
    from sam3_lora.ui.train_job import TrainJob

    return TrainJob()


def last_config() -> RunConfig | None:
    """The configuration of the newest run, which a tab that was reloaded goes on with; None without a run."""
    for run in list_runs(runs_folder()):
        with suppress(Sam3LoraError):
            return run.config
    return None


def current_dataset() -> str:
    """The dataset that was opened last in this tab; after a reload that of the newest run; else the demo."""
    if chosen := state.dataset_path():
        return chosen
    config = last_config()
    if config is None:
        return DEMO
    state.set_reading(config.data.path, config.data.image_dir, config.data.default_phrase)
    return config.data.path


@st.cache_resource(show_spinner=False)
def app_log() -> Path:
    """The file that unforeseen errors are written to; the first call opens it."""
    path = runs_folder() / "app.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=1_000_000, backupCount=1, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger("sam3_lora").addHandler(handler)
    return path


def log_unexpected(message: str) -> str:
    """Logs a message with the exception that is being handled; returns where to, in words."""
    try:
        where = f"the file {app_log()}"
    except OSError:
        where = "the terminal that the app was started from"
    logging.getLogger("sam3_lora.ui").exception(message)
    return where


def open_dataset(path: str) -> Dataset:
    """Opens a dataset once per state of its files. Raises DataError if there is nothing to open."""
    files, how = fingerprint(path), state.reading(path)
    known = _datasets().get((path, *how))
    if known and known[0] == files:
        return known[1]
    from sam3_lora.data.dataset import open_dataset

    images, phrase = how
    with _progress_bar() as tell:
        dataset = open_dataset(path, tell, images=images, phrase=phrase)
    _datasets()[path, images, phrase] = files, dataset
    for oldest in list(_datasets())[:-_KEPT_DATASETS]:
        _datasets().pop(oldest, None)
    return dataset


@st.cache_resource(show_spinner=False)
def _datasets() -> dict[tuple[str, str, str], tuple[tuple, Dataset]]:
    """Path and how it is read -> the fingerprint of a dataset's files, and what was read from them."""
    return {}


@contextmanager
def _progress_bar() -> Iterator[Callable[[float, str], None]]:
    """What tells the progress of something that may take long; nothing is shown of what is done at once."""
    began, place = time.monotonic(), st.empty()

    def tell(share: float, what: str) -> None:
        if time.monotonic() - began > _AT_ONCE_S:
            place.progress(min(max(share, 0.0), 1.0), what)

    try:
        yield tell
    finally:
        place.empty()


def broken_copy() -> Path:
    """The demo dataset with one of each fault, made in the user's cache folder. Raises DataError if it cannot be."""
    from sam3_lora.data.index.cache import cache_folder
    from sam3_lora.demo.broken_copy import make_broken_copy

    return make_broken_copy(ASSETS / "demo" / "dataset", cache_folder() / "broken-demo")


@st.cache_resource(max_entries=4, show_spinner="Loading the model's tokenizer")
def get_processor(base: str) -> Sam3Processor:
    """What makes tensors of images and words for a base model. Raises ModelError if it cannot be had."""
    from sam3_lora.model.base import load_processor

    return load_processor(base)


def forget_datasets() -> None:
    """Makes the next :func:`open_dataset` read from disk again."""
    _datasets().clear()
    _fingerprints().clear()
    _readings().append("again")


def fingerprint(path: str) -> tuple[tuple[str, int, int], ...]:
    """What changes when a dataset does: its annotation files, and the folders that images come and go in.

    Each rerun of a page asks for it. Where looking takes long, as with a hundred thousand files, it is done
    again only after a pause that is long beside it.
    """
    known = _fingerprints().get(path)
    if known and time.monotonic() < known[0]:
        return known[1]
    began = time.monotonic()
    root = ASSETS / "demo" / "dataset" if path == DEMO else Path(os.path.expanduser(path))
    files = tuple((str(entry), stat.st_mtime_ns, stat.st_size) for entry, stat in sorted(_watched(root, depth=2)))
    # An image that was overwritten in place changes none of these: after "Read again" all pictures are drawn anew.
    found = (("read", len(_readings()), 0), *files)
    took = time.monotonic() - began
    _fingerprints()[path] = time.monotonic() + (_PAUSE * took if took > _LONG_S else 0), found
    return found


@st.cache_resource(show_spinner=False)
def _readings() -> list[str]:
    """One entry for each time that someone asked to have datasets read again."""
    return []


@st.cache_resource(show_spinner=False)
def _fingerprints() -> dict[str, tuple[float, tuple]]:
    """Path -> the moment until which its fingerprint holds, and the fingerprint."""
    return {}


def _watched(entry: Path, depth: int) -> Iterator[tuple[Path, os.stat_result]]:
    try:
        yield entry, entry.stat()
        if not entry.is_dir():
            return
        with os.scandir(entry) as children:
            inside = [Path(child) for child in children if child.name.endswith(_WATCHED) or (depth and child.is_dir())]
    except (OSError, ValueError):  # ValueError: a name that no file system can hold
        return  # missing or not readable: opening it says so in words
    if len(inside) > _MAX_WATCHED:
        return  # a file of labels for each image: only the folder says whether some came or went
    for child in inside:
        yield from _watched(child, depth - 1)


@dataclass
class SharedPredictor:
    """A predictor that several browser tabs take turns with: hold ``lock`` while using it."""

    predictor: Predictor
    lock: threading.Lock = field(default_factory=threading.Lock)


def get_predictor(base: str, adapter: Path | None) -> SharedPredictor:
    """The base model, with an adapter on it if one is given. Raises ModelError if either cannot be loaded."""
    weights = adapter / "adapter_model.safetensors" if adapter else None
    stamp = weights.stat().st_mtime_ns if weights and weights.is_file() else None
    return _load_predictor(base, str(adapter) if adapter else None, stamp)


# A real SAM 3 takes gigabytes, so at most two are held: the one in use and the one before.
@st.cache_resource(max_entries=2, show_spinner="Loading the model")
def _load_predictor(base: str, adapter: str | None, stamp: int | None) -> SharedPredictor:
    from sam3_lora.predict.predictor import Predictor

    return SharedPredictor(Predictor.load(base, adapter))
