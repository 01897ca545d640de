"""The errors that a user's mistake may raise: each says what was expected, what came and how to fix it."""

from __future__ import annotations


class Sam3LoraError(Exception):
    """A mistake that the user can mend, told in one sentence together with its fix.

    Args:
        message: what was expected and what came instead, without a full stop at the end.
        fix: what the user should do about it, as an instruction.
    """

    def __init__(self, message: str, fix: str) -> None:
        self.message = message.rstrip(".")
        self.fix = fix.rstrip(".")
        super().__init__(f"{self.message}. {self.fix}.")

    def __reduce__(self):  # so that it comes whole out of a process that loads images
        return type(self), (self.message, self.fix)


class ConfigError(Sam3LoraError):
    """A setting, or a file of settings, that cannot be used."""


class DataError(Sam3LoraError):
    """A dataset or an image that cannot be opened at all (faults inside one are Findings instead)."""


class ModelError(Sam3LoraError):
    """A base model or an adapter that cannot be loaded, or that does not fit."""


class RunError(Sam3LoraError):
    """A run folder that cannot be read, written or resumed."""


class TrainingError(Sam3LoraError):
    """A run that cannot go on, for example because its loss is no longer finite."""


def first_line(error: BaseException) -> str:
    """What another library's exception says, without the rest of a long message; its type where it says nothing."""
    return (str(error) or type(error).__name__).splitlines()[0]
