"""The errors for mistakes that a user can fix: each says what was expected, what was found and how to fix it."""

from __future__ import annotations


class Sam3LoraError(Exception):
    """A mistake that the user can fix.

    Args:
        message: what was expected and what was found instead, without a full stop at the end.
        fix: what to do about it, as an instruction.
    """

    def __init__(self, message: str, fix: str) -> None:
        self.message = message.rstrip(".")
        self.fix = fix.rstrip(".")
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


def first_line(error: BaseException) -> str:
    """What another library's exception says, without the rest of a long message; its type where it says nothing."""
    return (str(error) or type(error).__name__).splitlines()[0]
