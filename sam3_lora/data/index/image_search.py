"""Finds images that are not where file_name says, by their names, anywhere in the dataset's folder."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from urllib.parse import unquote

from sam3_lora.data.folders import IMAGE_SUFFIXES, MASK_FOLDERS, ImageFiles
from sam3_lora.data.splits.names import split_word

_MAX_FOLDERS = 8  # of a path that are compared
_UPLOAD = re.compile(r"[0-9a-f]{8}-")  # at the beginning of names: Label Studio puts it before those of uploaded files
_ADDRESS = re.compile(r"\w{2,12}:/")


def is_address(file_name: str) -> bool:
    """Whether a file_name is an address like https://... instead of a path."""
    return _ADDRESS.match(file_name) is not None


@dataclass(frozen=True, slots=True)
class Match:
    """The files that may be meant by a name.

    Attributes:
        paths: relative to the split's folder.
        names: for a single file, how many names it fits equally well.
    """

    paths: tuple[str, ...] = ()
    names: int = 1

    @property
    def path(self) -> str:
        """The file that is certainly meant; "" if none is."""
        return self.paths[0] if len(self.paths) == self.names == 1 else ""


def search(
    files: ImageFiles, names: Collection[str], taken: Collection[str], split: str, siblings: Sequence[str]
) -> dict[str, Match]:
    """The files that may be meant by names that lead nowhere.

    A file may be meant if its name is the last part of the given one, or else differs from it only in case, %20 and the
    like, or else only in the ending, or else only in the prefix of Label Studio's uploads. Of several, those count
    whose folders agree most with the given ones, then those in the split's own folder. Masks do not count, nor images
    in a folder of another split, unless names give that folder. A file that fits several names is meant by the one that
    differs least.

    Args:
        files: of the split.
        names: from the annotation file.
        taken: images that other entries name, as paths relative to the split's folder.
        split: its name.
        siblings: the names of the dataset's other splits.

    Returns:
        By name, what is found.
    """
    given = {name: parts for name in names if (parts := _parts(name))}
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name, parts in given.items():
        groups[_spellings(parts[-1])[-1]].append(name)
    candidates: defaultdict[str, list[str]] = defaultdict(list)
    own = {split, *(folder for parts in given.values() for folder in parts[-2:-1])}
    others = set(map(_of_split, siblings)) - set(map(_of_split, own))
    for path in files.everywhere():
        key = _spellings(_disk_parts(path)[-1])[-1]
        if key in groups and path not in taken and _is_of(path, others):
            candidates[key].append(path)
    matches = dict.fromkeys(names, Match())
    for key, paths in candidates.items():
        matches |= _matches({name: given[name] for name in groups[key]}, paths)
    return matches


def _matches(given: dict[str, tuple[str, ...]], paths: list[str]) -> dict[str, Match]:
    """The matches of names and files that differ in case, encoding and ending at most."""
    by_tail: defaultdict[tuple[int, tuple[str, ...]], list[str]] = defaultdict(list)
    for path in paths:
        *folders, base = _disk_parts(path)
        spellings = _spellings(base)
        as_uploaded = spellings[-2].replace(" ", "_")  # its own prefix stays: an upload is not another upload
        for level, spelled in enumerate((*spellings[:-1], as_uploaded)):
            for tail in _tails(folders, spelled):
                by_tail[level, tail].append(path)
    found = {tail: _nearest(paths) for tail, paths in by_tail.items()}
    matches: dict[str, Match] = {}
    claims: defaultdict[str, list[tuple[tuple[int, int], str]]] = defaultdict(list)
    for name, parts in given.items():
        spellings = _spellings(parts[-1])
        levels = [level for level, spelled in enumerate(spellings) if (level, (spelled,)) in found]
        if not levels:
            continue
        level = levels[0]
        tails = [(level, tail) for tail in _tails(parts[:-1], spellings[level])]
        agreement = max(count for count, tail in enumerate(tails) if tail in found)
        matches[name] = Match(found[tails[agreement]])
        if matches[name].path:
            claims[matches[name].path].append(((-level, agreement), name))
    for path, claiming in claims.items():
        most = max(likeness for likeness, _ in claiming)
        best = [name for likeness, name in claiming if likeness == most]
        if len(claiming) > 1:
            matches |= {name: Match() for _, name in claiming} | dict.fromkeys(best, Match((path,), len(best)))
    return matches


def _tails(folders: Sequence[str], name: str) -> list[tuple[str, ...]]:
    """A name alone, with the folder that it is in, with two folders, ..."""
    parts = (*map(_folded, folders[-_MAX_FOLDERS:]), name)
    return [parts[start:] for start in range(len(parts) - 1, -1, -1)]


def _nearest(paths: list[str]) -> tuple[str, ...]:
    """The files in the split's own folder, if there are any."""
    return tuple(sorted([path for path in paths if not path.startswith("..")] or paths))


def _parts(file_name: str) -> tuple[str, ...]:
    """The folders and the name that a path of any system or an address gives."""
    text = file_name.partition("?d=")[2] or file_name  # Label Studio: /data/local-files/?d=folder/a.png
    text = re.split(r"[?#]", text)[0] if is_address(text) else re.sub("^[A-Za-z]:", "", text)
    parts = re.split(r"[/\\]+", text)
    if "%" in parts[-1]:  # %2F may separate folders
        parts = [*parts[:-1], *re.split(r"[/\\]+", unquote(parts[-1]))]
    return tuple(unicodedata.normalize("NFC", part) for part in parts if part not in ("", ".", ".."))


def _disk_parts(path: str) -> tuple[str, ...]:
    """The folders and the name of a file, also where an archive of Windows was unpacked without making its folders."""
    return PurePath(path.replace("\\", "/")).parts


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unquote(name)).casefold().strip()


def _spellings(name: str) -> tuple[str, str, str, str]:
    """A name as it is; without what case and encoding change; without its ending; without what
    Label Studio changes in uploads: a prefix, and _ for spaces."""
    folded = _folded(name)
    stem, ending = os.path.splitext(folded)
    stem = stem if ending in IMAGE_SUFFIXES else folded
    original = _UPLOAD.sub("", stem, 1) if _UPLOAD.match(stem) else stem
    return unicodedata.normalize("NFC", name), folded, stem, original.replace(" ", "_")


def _of_split(name: str) -> str:
    return split_word(name) or name.casefold()


def _is_of(path: str, others: set[str]) -> bool:
    """Whether a path is not in a folder of masks or of another split."""
    folders = [part.casefold() for part in PurePath(path).parts[:-1]]
    return not any(part in MASK_FOLDERS or part in others or split_word(part) in others for part in folders)
