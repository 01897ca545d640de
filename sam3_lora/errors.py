"""The errors for mistakes that a user can fix: each says what was expected, what was found and how to fix it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

_MAX_LENGTH = 2_000  # of each: names of files and categories may have any length
E = TypeVar("E", bound=BaseException)


def _bounded(text: str) -> str:
    """A text without its middle if it is too long: the reason is at its end."""
    return text if len(text) <= _MAX_LENGTH else f"{text[: _MAX_LENGTH // 2]}...{text[-_MAX_LENGTH // 2 :]}"


class Sam3LoraError(Exception):
    """A mistake that the user can fix.

    Args:
        message: what was expected and what was found instead, without a full stop at the end.
        fix: what to do about it, as an instruction.
    """

    def __init__(self, message: str, fix: str) -> None:
        self.message, self.fix = (_bounded(text.rstrip(".")) for text in (message, fix))
        super().__init__(f"{self.message}. {self.fix}.")

    def __reduce__(self) -> tuple[type[Sam3LoraError], tuple[str, str]]:  # pickled by worker processes of a loader
        return type(self), (self.message, self.fix)


class ConfigError(Sam3LoraError):
    """A setting, or a file of settings, that cannot be used."""


class DataError(Sam3LoraError):
    """A dataset or an image that cannot be opened at all (problems inside one are findings instead)."""


class ModelError(Sam3LoraError):
    """A base model or an adapter that cannot be loaded, or that does not fit."""


class RunError(Sam3LoraError):
    """A run folder that cannot be read, written or resumed."""


class TrainingError(Sam3LoraError):
    """A run that cannot continue, for example because its loss is no longer finite."""


class NotFiniteError(TrainingError):
    """A loss or gradients with infinity or NaN: the run cannot continue with its settings.

    Args:
        terms: the names of the loss terms that are not finite; empty if it is the gradients.
        images: the file names of the batch, as far as known.
        fp16: whether the run computes in fp16, which overflows early.
    """

    def __init__(self, terms: Sequence[str], images: Sequence[str], fp16: bool = False) -> None:
        self.terms, self.images, self.fp16 = tuple(terms), tuple(images), fp16
        names = ", ".join(images)
        super().__init__(
            f"Expected a finite loss and finite gradients, but found infinity or NaN in "
            f"{', '.join(terms) or 'the gradients'}" + (f" on the images {names}" if names else ""),
            "Start a new run with a lower training.learning_rate"
            + (" and training.precision bf16" if fp16 else "")
            + (f"; look at {names} on the dataset page" if names else "")
            + ". If this run has saved an adapter, 'Continue training' under Adapters (or model.adapter) lets the new "
            "run start from it",
        )

    def __reduce__(self):
        return type(self), (self.terms, self.images, self.fp16)


class Cancelled(Exception):
    """Long work ends because it was cancelled; a result that was reported before stays."""


@contextmanager
def explain_os_errors(kind: type[Sam3LoraError], message: str, fix: str) -> Iterator[None]:
    """Turns an OSError inside into an error for users.

    Args:
        kind: of the error.
        message: what failed; the operating system's reason is added to it.
        fix: what to do about it.
    """
    try:
        yield
    except OSError as error:
        raise kind(f"{message}: {error.strerror or error}", fix) from error


def cause(error: BaseException | None, kind: type[E]) -> E | None:
    """The first exception of a kind in the chain of causes, which begins with the error itself; None without one."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def first_line(error: BaseException) -> str:
    """What another library's exception says, without the rest of a long message; its type where it says nothing."""
    return (str(error) or type(error).__name__).splitlines()[0]
