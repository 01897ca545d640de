"""The replay of a run: its images and phrases, the base model's answers, and the batch of each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from sam3_lora.config import ReplayConfig
from sam3_lora.data.prompts import could_mean, normalized
from sam3_lora.data.samples import Batch, Collator, LeftOut, Sample, SampleDataset, checked
from sam3_lora.errors import DataError, RunError, explain_os_errors
from sam3_lora.structures import SoftTargets
from sam3_lora.train.replay.answers import Answers, answers_of, file_name, read_answers, together, write_answers
from sam3_lora.words import foreign_words, known_words

if TYPE_CHECKING:
    from sam3_lora.train.setup import Setup

MAX_IMAGES = 256  # that the base is asked about
WORDS = 28  # phrases asked of each image
_OWN_WORDS = 10  # of them, at most, the user's phrases to preserve
_FOREIGN_WORDS = 8  # of them, which the base is to go on refusing; the others are words that it may find
_AT_ONCE = 8  # phrases per forward pass
# Streams of random numbers, so that none depends on how many another has drawn.
_IMAGES, _WORDS, _ORDER, _PHRASES = range(4)


class ReplayWords(NamedTuple):
    """Phrases to choose from; none of them could mean what the adapter is taught or is to refuse."""

    own: list[str]  # the user's phrases to preserve
    known: list[str]  # others that the base knows
    foreign: list[str]  # others that hardly any image holds


class Replay:
    """Images with phrases that the base model is asked once; each step replays some of them.

    Which images and phrases a step replays follows from seed and step alone, so that a resumed run goes on alike.
    Images are never flipped: the base's answers belong to places in the image.

    Args:
        config: the run's settings.
        samples: the images.
        collate: samples to a batch.
        words: the phrases to choose from.
        seed: of the run.
        batch_size: images per forward pass, at most, so that replay needs no more memory than other batches.
        rank: which training process this is, from 0.
        world: how many there are.
    """

    def __init__(
        self,
        config: ReplayConfig,
        samples: SampleDataset,
        collate: Collator,
        words: ReplayWords,
        seed: int,
        batch_size: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.samples = samples
        self._config, self._collate, self._words = config, collate, words
        self._seed, self._batch_size, self._rank, self._world = seed, batch_size, rank, world
        images = np.random.default_rng((seed, _IMAGES)).permutation(len(samples))[:MAX_IMAGES]
        self.images: list[int] = sorted(images.tolist())
        self.folder: Path | None = None
        self._loading = ThreadPoolExecutor(max_workers=1, thread_name_prefix="replay")
        self._next: tuple[int, Future[list[Batch]]] | None = None

    def fill(
        self, setup: Setup, folder: Path, left_out: Callable[[LeftOut], None], images: int | None = None
    ) -> Iterator[int]:
        """Asks the base model, which is the run's with the adapter off, about the images that have no answers yet.

        In every one of several processes this yields equally often: the number of images done.

        Args:
            setup: the run; its model is left in evaluation mode.
            folder: for the answers.
            left_out: called with each image that cannot be loaded; it is not replayed.
            images: only so many.

        Raises:
            RunError: the answers cannot be written.
        """
        self.folder = folder
        if images is not None:
            self.images = self.images[:images]
        with explain_os_errors(RunError, f"The base model's answers cannot be written to {folder}", "Free some space"):
            folder.mkdir(exist_ok=True)
        for start in range(0, len(self.images), self._world):
            own = self.images[start + self._rank : start + self._rank + 1]
            for index in own:
                if read_answers(self._path(index)) is None:
                    self._ask(setup, index, left_out)
            yield min(start + self._world, len(self.images))

    def close_filling(self) -> None:
        """Leaves out the images without answers, once every process has asked its own.

        Raises:
            DataError: no image has any.
        """
        self.images = [index for index in self.images if self._path(index).exists()]
        if not self.images:
            raise DataError(
                "None of the images to replay can be loaded", "Correct replay.folder, or set replay.source to none"
            )

    def words_of(self, index: int) -> tuple[str, ...]:
        """The phrases that the base is asked about an image."""
        rng = np.random.default_rng((self._seed, _WORDS, index))
        own, known, foreign = ([words[place] for place in rng.permutation(len(words))] for words in self._words)
        own, foreign = own[:_OWN_WORDS], foreign[:_FOREIGN_WORDS]
        return (*own, *known[: WORDS - len(own) - len(foreign)], *foreign)

    def group(self, step: int) -> list[Batch]:
        """The batches that a step replays, from 1; the next step's are loaded meanwhile.

        Empty where no image of the step can be loaded.
        """
        waiting = self._next[1] if self._next is not None and self._next[0] == step else None
        group = self._load(step) if waiting is None else waiting.result()
        self._next = step + 1, self._loading.submit(self._load, step + 1)
        return group

    def close(self) -> None:
        """Ends the thread that loads."""
        self._loading.shutdown(cancel_futures=True)

    def _path(self, index: int) -> Path:
        assert self.folder is not None, "expected fill() first"
        return self.folder / file_name(f"{index} {self.samples.record(index).file_name}", self.words_of(index))

    @torch.no_grad()
    def _ask(self, setup: Setup, index: int, left_out: Callable[[LeftOut], None]) -> None:
        try:
            sample = self.samples.replayed(index, self.words_of(index))
        except DataError as error:
            left_out(LeftOut(self.samples.record(index).file_name, error))
            return
        setup.train_mode(False)
        batch = checked(self._collate([sample])).to(setup.accelerator.device)
        with setup.model.peft.disable_adapter(), setup.accelerator.autocast():
            answers = _ask(setup, batch)
        fix = "Free some space, then resume the run"
        with explain_os_errors(RunError, f"The base model's answers cannot be written to {self.folder}", fix):
            write_answers(self._path(index), answers)

    def _load(self, step: int) -> list[Batch]:
        samples: list[Sample] = []
        answers: list[SoftTargets] = []
        left_out: list[LeftOut] = []
        for slot, index in enumerate(self._images_of(step)):
            known = read_answers(self._path(index))
            if known is None:
                continue
            places, words = self._phrases_of(known, step, slot), self.words_of(index)
            try:
                samples.append(self.samples.replayed(index, [words[place] for place in places]))
                answers.append(known.of(places))
            except DataError as error:
                left_out.append(LeftOut(self.samples.record(index).file_name, error))
        group: list[Batch] = []
        for first in range(0, len(samples), self._batch_size):
            some = slice(first, first + self._batch_size)
            batch = checked(self._collate(samples[some]))
            group.append(replace(batch, soft=together(answers[some]), left_out=() if group else tuple(left_out)))
        return group

    def _images_of(self, step: int) -> list[int]:
        """The images of a step in this process: all images in turn, in another order each time."""
        count, per_step = len(self.images), self._config.images_per_step
        first = ((step - 1) * self._world + self._rank) * per_step
        rounds: dict[int, np.ndarray] = {}
        chosen = []
        for position in range(first, first + min(per_step, count)):
            number, place = divmod(position, count)
            if number not in rounds:
                rounds[number] = np.random.default_rng((self._seed, _ORDER, number)).permutation(count)
            chosen.append(self.images[rounds[number][place]])
        return chosen

    def _phrases_of(self, answers: Answers, step: int, slot: int) -> list[int]:
        """The places of an image's phrases that a step replays: half of them found there, as far as there are any."""
        count = self._config.phrases_per_image
        rng = np.random.default_rng((self._seed, _PHRASES, step, self._rank, slot))
        found = np.array(answers.found)
        there, absent = rng.permutation(found.nonzero()[0]), rng.permutation((~found).nonzero()[0])
        wanted = max(count // 2, count - len(absent)) if len(there) else 0
        chosen = [*there[:wanted].tolist(), *absent.tolist()]
        return chosen[:count]


def _ask(setup: Setup, batch: Batch) -> Answers:
    """The base's answers for the phrases of a batch of one image; a few phrases at once, to bound memory."""
    if setup.vision is not None:
        batch = setup.vision.complete(batch)
    detector = setup.model.detector
    vision = detector.encode_images(batch.pixel_values, backbone=batch.backbone)
    vision = replace(vision, text_only_geometry=detector.text_only_geometry(vision))
    chunks = []
    for first in range(0, len(batch.phrases), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        text = detector.encode_text(batch.input_ids[some], batch.attention_mask[some])
        chunks.append(detector.detect(vision, text, batch.image_index[some], masks=False))
    return answers_of(chunks)


def replay_words(config: ReplayConfig, base: str, taught: Sequence[str], refused: Sequence[str]) -> ReplayWords:
    """The phrases of a run's replay.

    Args:
        config: the run's.
        base: ``model.base``.
        taught: phrases of the dataset: the base's answers for what could mean them would unteach them.
        refused: phrases that the adapter is to refuse.
    """
    unwanted = [*taught, *map(normalized, refused)]

    def others(words: Iterable[str], than: Sequence[str] = ()) -> list[str]:
        return [word for word in words if word not in than and not any(could_mean(word, one) for one in unwanted)]

    own = others(dict.fromkeys(map(normalized, config.phrases)))
    return ReplayWords(own, others(known_words(base), own), others(foreign_words(), own))
