"""Resources that all browser tabs share: datasets, models, the training job, the app's log."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import streamlit as st

from sam3_lora.config import DEMO, RunConfig
from sam3_lora.data.folders import dataset_folder
from sam3_lora.data.index.cache import state_of
from sam3_lora.errors import ConfigError, Sam3LoraError, explain_os_errors
from sam3_lora.files import atomic_write, user_path
from sam3_lora.model.adapter_files.find_adapter import WEIGHTS
from sam3_lora.runs.run import list_runs
from sam3_lora.ui import state
from sam3_lora.ui.preferences import CONFIG_VARIABLE, config_folder, kept_edits

if TYPE_CHECKING:
    from transformers import Sam3Config, Sam3Processor

    from sam3_lora.data.dataset import Dataset
    from sam3_lora.predict.predictor import Predictor
    from sam3_lora.ui.train_job import TrainJob


K = TypeVar("K")
V = TypeVar("V")
_WATCHED = (".json", ".yaml", ".yml")  # files whose changes mean that a dataset has changed
_MAX_WATCHED = 200  # in one folder
_KEPT_DATASETS = 4
_PROGRESS_DELAY_S = 0.4
_IMPORTING = "import-model-libraries"  # name of a thread
_LONG_S, _PAUSE = 0.05, 20  # a fingerprint that takes longer is reused for so many times its duration


def runs_folder() -> Path:
    """The folder that holds the runs: the environment variable SAM3_LORA_RUNS, otherwise ``runs``."""
    return Path(os.environ.get("SAM3_LORA_RUNS", "runs"))


@st.cache_resource(show_spinner=False)
def get_train_job() -> TrainJob:
    """The training job of this process."""
    from sam3_lora.ui.train_job import TrainJob

    return TrainJob()


def last_config() -> RunConfig | None:
    """With which a new tab continues: the next run's configuration if it was changed since the newest run, otherwise
    that run's; None without either.
    """
    for run in list_runs(runs_folder()):
        with suppress(Sam3LoraError):
            return _kept_config(since=run.began) or run.asked_config
    return _kept_config(since=0.0)


def keep_config(config: RunConfig) -> None:
    """Keeps the next run's configuration, so that a reload does not lose it. Raises ConfigError."""
    path = next_run_file()
    fix = f"Make its folder writable, or choose another with the environment variable {CONFIG_VARIABLE}"
    with explain_os_errors(ConfigError, f"The settings cannot be kept in {path}", fix):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, config.to_yaml().encode())


def next_run_file() -> Path:
    """Where the next run's configuration is kept, one for each folder of runs."""
    root = str(user_path(runs_folder()).absolute()).encode("utf-8", "surrogateescape")
    return config_folder() / "next-run" / f"{hashlib.blake2b(root, digest_size=8).hexdigest()}.yaml"


def _kept_config(since: float) -> RunConfig | None:
    """What was kept last, if that was after a time in unix seconds."""
    path = next_run_file()
    with suppress(OSError, Sam3LoraError):
        return RunConfig.load(path) if path.stat().st_mtime > since else None
    return None


def first_config() -> RunConfig | None:
    """As :func:`last_config`, with the edits that were made of its dataset in the app, also after that run."""
    config = last_config()
    if config is None or config.data.edits:
        return config
    return config.with_settings({"data.edits": kept_edits(config.data.path)})


def current_dataset() -> str:
    """Path of the dataset that all pages of this tab work with.

    It is the one opened last in this tab; before any was, that of :func:`last_config`; without either, the demo.
    """
    if chosen := state.dataset_path():
        return chosen
    config = first_config()
    if config is not None:
        state.set_dataset_settings(config.data)
    # Decided once: a run that begins elsewhere must not change what the pages of this tab are about.
    st.session_state[state.DATASET_PATH] = path = DEMO if config is None else config.data.path
    return path


def has_dataset_folder(path: str) -> bool:
    """Whether the folder of a dataset is there."""
    try:
        return os.path.isdir(dataset_folder(path))
    except ValueError:  # a name that no file system can hold
        return False


def dataset_title(path: str) -> str:
    """What a dataset is called: the last part of its path."""
    return "Demo" if path == DEMO else os.path.basename(path.rstrip("/\\")) or path


@st.cache_resource(show_spinner=False)
def app_log() -> Path:
    """The file of unexpected errors; the first call opens it."""
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
    """Opens a dataset, cached per state of its files. Raises DataError if there is nothing to open."""
    files, reading = fingerprint(path), state.reading(path)
    key = tuple(reading.values())
    known = _datasets().get(key)
    if known and known[0] == files:
        return known[1]
    from sam3_lora.data.dataset import open_dataset

    with _progress_bar() as progress:
        dataset = open_dataset(progress=progress, **reading)
    _keep(_datasets(), key, (files, dataset))
    return dataset


def _keep(cache: dict[K, V], key: K, value: V) -> None:
    """Adds an entry to a cache of datasets, and drops those added longest ago."""
    cache.pop(key, None)
    cache[key] = value
    for oldest in list(cache)[:-_KEPT_DATASETS]:
        cache.pop(oldest, None)  # another tab may have dropped it


@st.cache_resource(show_spinner=False)
def _datasets() -> dict[tuple, tuple[tuple, Dataset]]:
    """How a dataset is opened (see state.reading) -> the fingerprint of its files, and the dataset."""
    return {}


@contextmanager
def _progress_bar() -> Iterator[Callable[[float, str], None]]:
    """A progress bar, given as the function that updates it; it appears after a short delay only."""
    began, place = time.monotonic(), st.empty()

    def progress(share: float, what: str) -> None:
        if time.monotonic() - began > _PROGRESS_DELAY_S:
            place.progress(min(max(share, 0.0), 1.0), what)

    try:
        yield progress
    finally:
        place.empty()


# Errors are cached for a minute, too: a request to the Hub per keystroke would make the form stutter.
@st.cache_resource(ttl=60, max_entries=16, show_spinner=False)
def get_architecture(base: str) -> Sam3Config | None:
    """The architecture of a base model, with its own image size, to be read only; None where it is not known."""
    from sam3_lora.model.base import load_config

    try:
        return load_config(base)
    except Sam3LoraError:
        return None


@st.cache_resource(max_entries=4, show_spinner="Loading the model's tokenizer")
def get_processor(name_or_path: str, *, image_size: int | None = None, processor: str = "") -> Sam3Processor:
    """The processor of a base model, cached; see :func:`sam3_lora.model.base.load_processor`. Raises ModelError."""
    from sam3_lora.model.base import load_processor

    return load_processor(name_or_path, image_size=image_size, processor=processor)


def forget_datasets() -> None:
    """Makes the next :func:`open_dataset` read from disk again."""
    _datasets().clear()
    _fingerprints().clear()
    _reloads().append("reload")


def fingerprint(path: str) -> tuple:
    """Changes when the files of a dataset do, or how this tab reads them."""
    reading = state.reading(path)
    edits = (("edits", *state_of(str(user_path(reading["edits"])))),) if reading["edits"] else ()
    return (*_files(path), *edits, *reading.values())


def _files(path: str) -> tuple[tuple[str, int, int], ...]:
    """Modification times and sizes of a dataset's annotation files and image folders.

    Every rerun of a page calls it. Where it takes long, as with a hundred thousand files, the last value is reused
    for a while.
    """
    known = _fingerprints().get(path)
    if known and time.monotonic() < known[0]:
        return known[1]
    began = time.monotonic()
    entries = sorted(_watched(dataset_folder(path), depth=2))
    files = tuple((str(entry), stat.st_mtime_ns, stat.st_size) for entry, stat in entries)
    # Overwriting an image in place changes none of these: the number of reloads does, and all images are drawn again.
    found = (("read", len(_reloads()), 0), *files)
    took = time.monotonic() - began
    _keep(_fingerprints(), path, (time.monotonic() + (_PAUSE * took if took > _LONG_S else 0), found))
    return found


@st.cache_resource(show_spinner=False)
def _reloads() -> list[str]:
    """One entry per press of "Reload"."""
    return []


@st.cache_resource(show_spinner=False)
def _fingerprints() -> dict[str, tuple[float, tuple]]:
    """Path -> time.monotonic() until which the fingerprint is reused, and the fingerprint."""
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
    """A predictor that several browser tabs share: hold ``lock`` while using it."""

    predictor: Predictor
    lock: threading.Lock = field(default_factory=threading.Lock)


def get_predictor(
    name_or_path: str, adapter: Path | None, *, image_size: int | None = None, processor: str = ""
) -> SharedPredictor:
    """The base model with an adapter, cached. Raises ModelError if either cannot be loaded.

    Args:
        name_or_path: name or path of the base model.
        adapter: its folder; None for the base model alone.
        image_size: see :meth:`sam3_lora.predict.predictor.Predictor.load`.
        processor: see there.
    """
    weights = adapter / WEIGHTS if adapter else None
    stamp = weights.stat().st_mtime_ns if weights and weights.is_file() else None
    return _load_predictor(name_or_path, str(adapter) if adapter else None, stamp, image_size, processor)


@st.cache_resource(show_spinner=False)
def import_model_libraries() -> threading.Thread:
    """Starts to import in the background, once, the libraries that models need, which takes seconds."""

    def work() -> None:
        # Nothing of our own: two threads in one circle of imports see half a module.
        with suppress(ImportError):  # the page that needs it says so
            import pandas  # noqa: F401
            import peft  # noqa: F401
            import torch  # noqa: F401
            from transformers import Sam3Model, Sam3Processor  # noqa: F401

    thread = threading.Thread(target=work, name=_IMPORTING, daemon=True)
    thread.start()
    return thread


def wait_for_model_libraries() -> None:
    """Waits until the imports that were started are done, and says so; a page would import half of a library."""
    for thread in threading.enumerate():
        if thread.name == _IMPORTING:
            with st.spinner("Loading PyTorch"):
                thread.join()


# SAM 3 takes gigabytes, so that at most two are held: the current one and the previous one.
@st.cache_resource(max_entries=2, show_spinner="Loading the model")
def _load_predictor(
    base: str, adapter: str | None, stamp: int | None, image_size: int | None, processor: str
) -> SharedPredictor:
    from sam3_lora.predict.predictor import Predictor
    from sam3_lora.train.memory import free_unused

    free_unused()  # what was dropped before makes room
    return SharedPredictor(Predictor.load(base, adapter, image_size=image_size, processor=processor))
