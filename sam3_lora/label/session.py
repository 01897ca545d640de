"""A labelling session: a folder with what is labelled, the proposals made ahead, and the decisions so far."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from filelock import FileLock, Timeout
from msgspec import Meta

from sam3_lora.data.folders import ANNOTATION_FILE
from sam3_lora.errors import DataError, explain_os_errors, first_line
from sam3_lora.files import atomic_file, atomic_write, open_regular, read_file, user_path
from sam3_lora.label import decisions as files
from sam3_lora.label.decisions import Decision
from sam3_lora.label.proposals import Proposals
from sam3_lora.predict.folder import images_in

Order = Literal["uncertain", "similar", "name"]
ORDERS: tuple[Order, ...] = ("uncertain", "similar", "name")
SETTINGS, DECISIONS, PROPOSALS, DATASET, LOCK = "session.json", "decisions", "proposals", "dataset", "session.lock"
TRAINED = "trained.json"  # the images of the last run that was prepared
_MAX_BYTES = 64_000_000
_CLAIM_S = 900.0  # after so long without a decision, another tab may have the image
_FIX = "Make room on the disk, or the folder writable"


class SessionSettings(msgspec.Struct, frozen=True):
    """What a session is about.

    Attributes:
        images: the folder of the images.
        phrases: what is asked for.
        dataset, split: whose annotations are reviewed; "" for images without any.
        created: unix seconds.
    """

    images: Annotated[str, Meta(min_length=1)]
    phrases: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=1000)], ...], Meta(min_length=1)]
    dataset: str = ""
    split: str = ""
    created: float = 0.0


class Session:
    """An open session. Only one process opens it, any number of tabs; every method may be called from any thread.

    Attributes:
        folder: of the session.
        settings: what it is about.
        images: names of all images, relative to their folder, sorted.
        problems: files of decisions that cannot be read, a sentence each.

    Args:
        folder: an existing session.
        images: names of the images; None: those in the folder.

    Raises:
        DataError: it is none, its images are gone, or another process has it open.
    """

    def __init__(self, folder: Path, images: list[str] | None = None) -> None:
        self.folder = folder
        self.settings = read_settings(folder)
        self.root = user_path(self.settings.images)
        self._lock = threading.RLock()
        self._file_lock = FileLock(folder / LOCK, thread_local=False)
        with explain_os_errors(DataError, f"The session {folder} cannot be opened", _FIX):
            try:
                self._file_lock.acquire(timeout=0)
            except Timeout:
                raise DataError(f"Another program labels in {folder}", "Use that one, or close it") from None
        try:
            self.images = images or [path.relative_to(self.root).as_posix() for path in images_in(self.root)]
            found, self.problems = files.read_all(folder / DECISIONS)
        except BaseException:
            self.close()
            raise
        known = set(self.images)
        self._decisions = {name: one for name, one in found.items() if name in known}
        self._proposals: dict[str, Proposals] = {}
        self._place = {name: place for place, name in enumerate(self.images)}
        self._unreadable: dict[str, str] = {}  # image -> why, one sentence
        self._model = ""
        self._priorities: dict[str, float] = {}  # image -> what comes before uncertainty, see prefer()
        self._claims: dict[str, tuple[str, float]] = {}  # image -> the tab that has it, and since when

    @classmethod
    def create(cls, root: Path, settings: SessionSettings, images: list[str] | None = None) -> Session:
        """A new session in a folder of its own, named after its images. Raises DataError."""
        name = re.sub(r"[^\w-]+", "-", Path(settings.images).name).strip("-")[-40:] or "images"
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(settings.created or time.time()))
        folder, number = root / f"{stamp}-{name}", 2
        while folder.exists():
            folder, number = root / f"{stamp}-{name}-{number}", number + 1
        if images is None:
            images_in(user_path(settings.images))  # before anything is written
        with explain_os_errors(DataError, f"The session cannot be made in {root}", _FIX):
            folder.mkdir(parents=True)
            atomic_write(folder / SETTINGS, msgspec.json.encode(settings), sync=True)
        return cls(folder, images)

    def close(self) -> None:
        """Lets other processes open it."""
        self._file_lock.release()

    # Proposals

    def use_model(self, model: str) -> None:
        """Names the model that proposes from now on; proposals of another one are dropped, those on disk are read."""
        with self._lock:
            if model != self._model:
                self._model, self._priorities = model, {}
                self._proposals = Proposals.read_all(self._proposal_folder(model), set(self.images))

    def add_proposals(self, model: str, proposals: Proposals) -> None:
        """Keeps what the model proposes for an image; one that cannot be read is put aside until the next start.

        Raises DataError if proposals cannot be written.
        """
        if proposals.problem:
            with self._lock:
                self._unreadable[proposals.image] = proposals.problem
            return
        proposals.write(self._proposal_folder(model))
        with self._lock:
            if model == self._model:
                self._proposals[proposals.image] = proposals

    def proposals(self, image: str) -> Proposals | None:
        """What the current model proposes for an image; None if that is not known yet."""
        with self._lock:
            return self._proposals.get(image)

    @property
    def model(self) -> str:
        """The model that proposes."""
        return self._model

    def prefer(self, image: str, priority: float) -> None:
        """Gives an image a place of its own among the uncertain ones, the highest first: disagreements in a review."""
        with self._lock:
            self._priorities[image] = priority

    def without_priority(self) -> list[str]:
        """Images with proposals, but without a place of their own."""
        with self._lock:
            return [name for name in self._proposals if name not in self._priorities]

    def not_predicted(self) -> list[str]:
        """The images without a decision and without proposals, in the order of their names."""
        with self._lock:
            known = (self._decisions, self._proposals, self._unreadable)
            return [name for name in self.images if all(name not in one for one in known)]

    @property
    def unreadable(self) -> dict[str, str]:
        """The images that cannot be read, as far as that is known, each with the reason in a sentence."""
        with self._lock:
            return dict(self._unreadable)

    def _proposal_folder(self, model: str) -> Path:
        return self.folder / PROPOSALS / files.file_of(Path(), model).stem

    # Images

    def next_image(self, tab: str, order: Order, after: str = "") -> str | None:
        """The image that a tab labels next, which no other tab gets meanwhile; None if none is left.

        Args:
            tab: any text that tells tabs apart.
            order: by name; the most uncertain first; or the most like the one labelled last. Images without
                proposals yet come after those that have some.
            after: the image labelled last.
        """
        with self._lock:
            now = time.monotonic()
            free = [
                name
                for name in self.images
                if name not in self._decisions
                and name not in self._unreadable
                and (self._claims.get(name, (tab, 0.0))[0] == tab or now - self._claims[name][1] > _CLAIM_S)
            ]
            if not free:
                return None
            chosen = min(free, key=lambda name: self._rank(name, order, after))
            self.claim(tab, chosen)
            return chosen

    def peek(self, tab: str, order: Order, image: str) -> str | None:
        """The image that a tab probably gets after one, if there are proposals for it; it is not claimed."""
        with self._lock:
            free = [
                name
                for name in self._proposals
                if name != image and name not in self._decisions and self._claims.get(name, (tab, 0.0))[0] == tab
            ]
            return min(free, key=lambda name: self._rank(name, order, image), default=None)

    def claim(self, tab: str, image: str) -> None:
        """Gives an image to a tab, and takes all others from it."""
        with self._lock:
            self._claims = {name: claim for name, claim in self._claims.items() if claim[0] != tab}
            self._claims[image] = (tab, time.monotonic())

    def _rank(self, name: str, order: Order, after: str) -> tuple[float, float]:
        known = self._proposals.get(name)
        place = float(self._place[name])
        if order == "name":
            return 0.0, place
        if known is None:
            return 1.0, place
        last = self._proposals.get(after)
        if order == "similar" and last is not None:
            return 0.0, -known.similarity(last)
        return 0.0, -self._priorities.get(name, known.uncertainty)

    # Decisions

    def decision(self, image: str) -> Decision | None:
        """What was decided about an image."""
        with self._lock:
            return self._decisions.get(image)

    def decide(self, decision: Decision) -> None:
        """Writes a decision to the disk, then counts it. Raises DataError if it cannot be written."""
        files.write(self.folder / DECISIONS, decision)
        with self._lock:
            self._decisions[decision.image] = decision

    @property
    def decisions(self) -> dict[str, Decision]:
        """All decisions by image, in the order of the images' names."""
        with self._lock:
            return {name: self._decisions[name] for name in self.images if name in self._decisions}

    @property
    def seconds_per_image(self) -> float | None:
        """The median time of the decisions; None before the first."""
        times = [one.seconds for one in self.decisions.values() if one.seconds > 0]
        return statistics.median(times) if times else None

    def write_dataset(self, only: Collection[str] | None = None) -> Path:
        """Writes what is decided as COCO, its images linked or copied; returns the dataset's folder.

        Args:
            only: images; None: all that are decided, in the folder of before.

        Raises:
            DataError: nothing is decided yet, an image is gone, or it cannot be written.
        """
        done = {name: one for name, one in self.decisions.items() if only is None or name in only}
        if not done:
            raise DataError("Nothing is labelled yet", "Confirm an image first")
        folder = self.folder / (DATASET if only is None else f"{DATASET}-{time.strftime('%Y%m%d-%H%M%S')}")
        split = folder / (re.sub(r"[^\w-]+", "-", self.settings.split).strip("-") or "train")
        names = {name: _file_name(name) for name in done}
        content = files.coco(done, self.settings.phrases, names)
        with explain_os_errors(DataError, f"The dataset cannot be written to {split}", _FIX):
            split.mkdir(parents=True, exist_ok=True)
            for name, file_name in names.items():
                (split / file_name).parent.mkdir(parents=True, exist_ok=True)
                _put(self.root / name, split / file_name)
            atomic_write(split / ANNOTATION_FILE, msgspec.json.encode(content), sync=True)
        return folder

    # Training

    def untrained(self) -> list[str]:
        """The images that were decided since the last time that a run was prepared with what is decided."""
        try:
            known = set(msgspec.json.decode(read_file(self.folder / TRAINED, _MAX_BYTES), type=list[str]))
        except (OSError, ValueError):
            known = set()
        return [name for name in self.decisions if name not in known]

    def mark_trained(self) -> None:
        """Counts what is decided now as trained with. Raises DataError."""
        with explain_os_errors(DataError, f"The session {self.folder} cannot be written", _FIX):
            atomic_write(self.folder / TRAINED, msgspec.json.encode(list(self.decisions)))


def _file_name(image: str) -> str:
    """The name of an image in the dataset: its own where every system takes it, or one that is no other's."""
    if all(re.fullmatch(r"\w[\w .()+-]{0,120}", part) and part != ANNOTATION_FILE for part in image.split("/")):
        return image
    stem, suffix = os.path.splitext(image)
    readable = re.sub(r"[^\w-]+", "-", stem)[-80:]
    return f"{readable}-{files.file_of(Path(), image).stem[:12]}{suffix}"


def _put(source: Path, target: Path) -> None:
    """Links an image, or copies it to another disk; one that is there already stays. Raises OSError, DataError."""
    try:
        original = source.stat()
    except FileNotFoundError:
        raise DataError(f"The image {source} is gone", "Put it back, then try again") from None
    try:
        there = target.stat()
        is_same = os.path.samefile(source, target) or there.st_mtime >= original.st_mtime
        if is_same and there.st_size == original.st_size:
            return
        target.unlink()
    except FileNotFoundError:
        pass
    try:
        os.link(os.path.realpath(source), target)
    except OSError:  # another disk, or one without links
        with atomic_file(target) as copy, open_regular(source) as image:
            shutil.copyfileobj(image, copy)


def read_settings(folder: Path) -> SessionSettings:
    """A session's settings. Raises DataError if the folder is no session."""
    try:
        return msgspec.json.decode(read_file(folder / SETTINGS, 10_000_000), type=SessionSettings)
    except (OSError, ValueError, RecursionError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or first_line(error)
        raise DataError(f"The session {folder} cannot be read: {reason}", "Begin another one") from None


def list_sessions(root: Path) -> list[tuple[Path, SessionSettings, int]]:
    """Sessions in a folder, the newest first: folder, settings, and how many images are decided."""
    found = []
    for folder in sorted(root.iterdir(), reverse=True) if root.is_dir() else ():
        try:
            settings = read_settings(folder)
        except DataError:
            continue
        decided = (
            len([name for name in os.listdir(folder / DECISIONS) if name.endswith(".json")])
            if (folder / DECISIONS).is_dir()
            else 0
        )
        found.append((folder, settings, decided))
    return found


def corrections_per_object(decisions: Mapping[str, Decision]) -> float:
    """Corrections for each object that was labelled, as a measure of how well the model proposes."""
    objects = sum(len(one.objects) for one in decisions.values())
    return sum(one.corrections for one in decisions.values()) / max(objects, 1)
