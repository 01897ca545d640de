"""What is said of edits (data/edits) when a dataset is opened with them; see messages.py."""

from __future__ import annotations

ERRORS: dict[str, tuple[str, str]] = {}
WARNINGS: dict[str, tuple[str, str]] = {
    "edits-unfit": (
        "{count:,} {names} in the list of edits {are} not in the dataset any more, so nothing was done there; all "
        "other edits apply",
        "Nothing, if the dataset was changed on purpose; otherwise put the files back, or correct the edits",
    ),
}
INFOS: dict[str, tuple[str, str]] = {}
