"""What a repair of refusal did and changed: a small file beside the repaired adapter, and the sentences about it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec

from sam3_lora.errors import RunError, first_line
from sam3_lora.files import MB, read_file
from sam3_lora.markdown import table
from sam3_lora.text import plural

FILE = "refusal.json"
NEGLIGIBLE = 0.005  # half a percent: smaller differences are neither gain nor loss
_MAX_BYTES = MB


class Refusal(msgspec.Struct, frozen=True):
    """How well an adapter refuses, and what else it finds, on the validation images.

    Counts are pairs: prompts and those of them with a prediction; objects that the base model finds and those of them
    that the adapter finds, too.
    """

    f1_50: float | None  # of the dataset's phrases, as Evaluate measures it; None where it is not defined
    cgf1: float | None
    absent: tuple[int, int]  # phrases of the dataset that are absent in the image
    foreign: tuple[int, int]  # foreign words
    kept: tuple[int, int]  # objects of common phrases

    @property
    def firing(self) -> float:
        """The share of all prompts for what is absent that have a prediction, in [0, 1]."""
        asked, fired = (sum(both) for both in zip(self.absent, self.foreign, strict=True))
        return fired / max(asked, 1)


class Outcome(StrEnum):
    """What a repair has brought."""

    REPAIRED = "repaired"  # fires less, and nothing is worse
    AT_A_COST = "at a cost"  # fires less, but finds less of what it should find
    NO_GAIN = "no gain"  # does not fire less
    NOT_MEASURED = "not measured"  # there was nothing to measure on


class RepairReport(msgspec.Struct, frozen=True, kw_only=True):
    """A repair of refusal."""

    made: str  # local time, ISO 8601
    source: str  # the adapter that was repaired: "best" or "last"
    seed: int
    steps: int
    seconds: float
    images: int  # trained on
    of_images: int  # of so many
    pairs: int  # of an image and a phrase
    measured_images: int = 0
    of_measured_images: int = 0
    measured_words: tuple[str, ...] = ()  # foreign words, none of them trained with
    before: Refusal | None = None  # None where there was nothing to measure on
    after: Refusal | None = None

    @property
    def outcome(self) -> Outcome:
        """What the repair has brought, by its numbers."""
        if self.before is None or self.after is None:
            return Outcome.NOT_MEASURED
        if self.before.firing - self.after.firing < NEGLIGIBLE:
            return Outcome.NO_GAIN
        return Outcome.AT_A_COST if self.losses else Outcome.REPAIRED

    @property
    def losses(self) -> list[str]:
        """The labels of what is worse than before, among the numbers that a repair should leave alone."""
        return [label for label, before, after in _found(self) if before - after >= NEGLIGIBLE]


def read(adapter: Path) -> RepairReport | None:
    """The report beside a repaired adapter; None where there is none.

    Raises:
        RunError: the file is damaged.
    """
    path = adapter / FILE
    try:
        return msgspec.json.decode(read_file(path, _MAX_BYTES), type=RepairReport)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {first_line(error)}", "Repair the adapter again") from None


def to_bytes(report: RepairReport) -> bytes:
    """The content of FILE."""
    return msgspec.json.format(msgspec.json.encode(report)) + b"\n"


def sentence(report: RepairReport) -> str:
    """What the repair has brought, in one sentence or two."""
    outcome, first = report.outcome, f"adapters/{report.source}"
    if outcome is Outcome.NOT_MEASURED:
        return f"Trained, but not measured, because the run has no images to validate on. {first} is unchanged."
    assert report.before is not None and report.after is not None, "it was measured"
    after, before = report.after.firing, report.before.firing
    fires = f"fires for {after:.1%} of the prompts for what is absent, before for {before:.1%}"
    if outcome is Outcome.NO_GAIN:
        return f"The repair gained nothing: the adapter {fires}. Go on using {first}."
    if outcome is Outcome.AT_A_COST:
        return f"Refusal is better, other numbers are worse ({', '.join(report.losses)}): the adapter {fires}."
    return f"Refusal is repaired: the adapter {fires}, and finds no less than before."


def rows(report: RepairReport) -> list[tuple[str, str, str]]:
    """Label, value before and value after of each number; empty where nothing was measured."""
    if report.before is None or report.after is None:
        return []
    before, after = report.before, report.after
    return [
        ("Foreign words that fire", _share(before.foreign), _share(after.foreign)),
        ("Absent phrases of the dataset that fire", _share(before.absent), _share(after.absent)),
        ("F1", _number(before.f1_50), _number(after.f1_50)),
        ("cgF1", _number(before.cgf1), _number(after.cgf1)),
        ("Kept of what the base model finds", _share(before.kept), _share(after.kept)),
    ]


def facts(report: RepairReport) -> str:
    """What was trained and measured on, as a sentence."""
    trained = f"Presence head of adapters/{report.source} trained for {plural(report.steps, 'step')}"
    trained = f"{trained} on {report.pairs:,} pairs of image and phrase"
    images = f"{_of(report.images, report.of_images)} of the training split, seed {report.seed}"
    measured = f"measured on {_of(report.measured_images, report.of_measured_images)} to validate on"
    words = f"with {plural(len(report.measured_words), 'foreign word')} that it was not trained with"
    return f"{trained} ({images})" + (f"; {measured}, {words}." if report.before else ".")


def card_section(report: RepairReport) -> str:
    """The section of the model card about the repair, as Markdown without its heading."""
    lines = [f"{facts(report)} {sentence(report)}", ""]
    measured = rows(report)
    return "\n".join([*lines, *(table(("", "before", "after"), measured) if measured else [])]).rstrip() + "\n"


def _found(report: RepairReport) -> list[tuple[str, float, float]]:
    """Label and values of the numbers that a repair should leave alone, where both are defined."""
    before, after = report.before, report.after
    if before is None or after is None:
        return []
    named = [("F1", before.f1_50, after.f1_50), ("cgF1", before.cgf1, after.cgf1)]
    found = [(label, one, other) for label, one, other in named if one is not None and other is not None]
    return [*found, ("kept", _ratio(before.kept), _ratio(after.kept))]


def _ratio(counts: tuple[int, int]) -> float:
    return counts[1] / max(counts[0], 1)


def _share(counts: tuple[int, int]) -> str:
    return f"{_ratio(counts):.1%} ({counts[1]} of {counts[0]})" if counts[0] else "not measured"


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _of(count: int, total: int) -> str:
    return plural(count, "image") if count == total else f"{count:,} of {plural(total, 'image')}"
