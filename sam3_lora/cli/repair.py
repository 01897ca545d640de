"""The command repair: finds the edits that mend a dataset, and writes it anew."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sam3_lora.cli.options import AsJson, CrowdsAsObjects, Dataset, DefaultPhrase, ImageDir
from sam3_lora.cli.output import check_folder, echo, echo_json, progress_bar
from sam3_lora.errors import ConfigError
from sam3_lora.text import first_names, plural, short

if TYPE_CHECKING:
    from sam3_lora.data.edits.kinds import EditList
    from sam3_lora.data.edits.mending import Changes, Examined
    from sam3_lora.data.edits.writing import Written
    from sam3_lora.data.records import Dataset as OpenDataset

HoldOut = Annotated[
    list[str] | None,
    typer.Option(help="Move a share of a split to another one: train:test:0.1; near-copies together. Repeatable."),
]
Merge = Annotated[
    list[str] | None,
    typer.Option(help="Another dataset, written with this one to --out as one; repeatable. Categories are matched."),
]
Link = Annotated[
    bool, typer.Option("--link", help="Hard-link the images instead of copying them, which takes no space.")
]
Fix = Annotated[
    list[str] | None,
    typer.Option(help="A kind of finding to mend, or 'all' where nothing is to decide; repeatable."),
]


def repair(
    dataset: Dataset,
    fix: Fix = None,
    edits: Annotated[Path | None, typer.Option(help="A file of edits to begin with.")] = None,
    hold_out: HoldOut = None,
    seed: Annotated[int, typer.Option(help="Which images --hold-out moves.")] = 0,
    save: Annotated[Path | None, typer.Option(help="Write the edits to this file, for data.edits.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the edited dataset as COCO to this new folder.")] = None,
    merge: Merge = None,
    link: Link = False,
    fast: Annotated[bool, typer.Option("--fast", help="Do not read the images: only what opening finds.")] = False,
    image_dir: ImageDir = "",
    default_phrase: DefaultPhrase = "",
    crowds_as_objects: CrowdsAsObjects = False,
    as_json: AsJson = False,
) -> None:
    """Show what edits mend in a dataset, and write a new one. Its own files are never changed."""
    from sam3_lora.data.dataset import open_dataset
    from sam3_lora.data.edits.choosing import held_out_edit
    from sam3_lora.data.edits.file import read_edits, write_edits
    from sam3_lora.data.edits.kinds import EditList
    from sam3_lora.data.edits.mending import Examined, changes, mend
    from sam3_lora.data.edits.writing import check_place

    _check_kinds(fix or [])
    shares = [_share(text) for text in hold_out or []]
    given = read_edits(edits) if edits is not None else EditList()
    reading: dict[str, Any] = {"images": image_dir, "phrase": default_phrase, "crowds_as_objects": crowds_as_objects}

    def open_with(edits: EditList) -> OpenDataset:
        return open_dataset(dataset, **reading, edits=edits)

    before = open_with(EditList())
    if merge and out is None:
        raise ConfigError("Expected a folder for the merged dataset", "Give a new one with --out")
    if out is not None:
        check_place(before.root, out)
        check_folder(out)
    check_folder(save and save.parent)
    with progress_bar("Examining every image") as progress:
        found = Examined.of(before, deep=not fast, progress=progress)
        start = Examined.of(open_with(given), deep=not fast, progress=progress) if given else found
        chosen, after = mend(start, open_with, given, fix or [], progress)
        for split, to, share in shares:
            chosen = chosen.plus([held_out_edit(after.dataset.split(split), to, share, seed)])
            after = Examined.of(open_with(chosen), deep=not fast, progress=progress)
    if save is not None:
        write_edits(save, chosen)
    written = None if out is None else _write(after.dataset, out, merge or [], link=link, quiet=as_json)
    difference = changes(found, after)
    if as_json:
        echo_json(_as_json(chosen, difference, written))
    else:
        _print(chosen, difference, after, written)


def _write(dataset: OpenDataset, out: Path, merge: list[str], *, link: bool, quiet: bool) -> Written:
    from sam3_lora.data.edits.writing import write_dataset

    others = [_open_to_merge(dataset, path, quiet=quiet) for path in merge]
    with progress_bar("Writing the images") as progress:
        return write_dataset(dataset, out, others=others, link=link, progress=progress)


def _open_to_merge(dataset: OpenDataset, path: str, *, quiet: bool) -> OpenDataset:
    """Opens a dataset that is merged with another one, and says what becomes of its categories."""
    from sam3_lora.data.edits.merging import open_matched

    other, matches = open_matched(dataset, path)
    for match in matches if not quiet else ():
        known = "new" if match.becomes not in dataset.categories else "the same"
        what = known if match.becomes == match.name else f"becomes {short(str(match.becomes))}"
        echo(f"  {short(path)}: {short(match.name)} ({plural(match.objects, 'object')}): {what}")
    return other


def _share(text: str) -> tuple[str, str, float]:
    """A split, another one and a share, of "train:test:0.1". Raises ConfigError."""
    split, _, rest = text.partition(":")
    to, _, number = rest.rpartition(":")
    try:
        share = float(number)
    except ValueError:
        share = 0.0
    if not (split and to and split != to and 0 < share < 1):
        raise ConfigError(
            f"Expected two splits and a share after --hold-out, got '{short(text)}'", "Write it like train:test:0.1"
        )
    return split, to, share


def _check_kinds(fix: list[str]) -> None:
    """Raises ConfigError if a kind of finding has no remedy."""
    from sam3_lora.data.edits.remedies import ALL, kinds_with_remedy
    from sam3_lora.data.findings.messages import WORDINGS

    known = kinds_with_remedy()
    for kind in fix:
        if kind != ALL and kind not in known:
            what = "needs a person: no edit mends it" if kind in WORDINGS else "is no kind of finding"
            raise ConfigError(
                f"'{short(kind)}' {what}", "Give 'all', or kinds that 'sam3-lora repair DATASET' says it can mend"
            )


def _as_json(edits: EditList, changes: Changes, written: Written | None) -> dict[str, Any]:
    import msgspec

    names = ("kind", "split")
    found: dict[str, Any] = {
        "edits": msgspec.to_builtins(edits.edits),
        "splits": {
            name: {"before": msgspec.to_builtins(before), "after": msgspec.to_builtins(after)}
            for name, (before, after) in changes.numbers.items()
        },
    }
    for part in ("mended", "left", "new"):
        found[part] = [dict(zip(names, one, strict=True)) for one in getattr(changes, part)]
    if written is not None:
        found["written"] = {**asdict(written), "folder": str(written.folder)}
    return found


def _print(edits: EditList, changes: Changes, after: Examined, written: Written | None) -> None:
    from sam3_lora.data.edits.remedies import remedy

    for name, (before, now) in changes.numbers.items():
        parts = [
            f"{getattr(before, what):,} -> {getattr(now, what):,} {what}"
            for what in ("images", "objects", "masks", "crowds", "categories")
            if getattr(before, what) != getattr(now, what)
        ]
        echo(f"  {name}: {', '.join(parts) or 'the same number of images and objects'}")
    gone = list(dict.fromkeys(kind for kind, _ in changes.mended))
    echo(f"{plural(len(edits.edits), 'edit')}; mended: {first_names(gone, len(gone)) or 'nothing'}")
    echo("Left:" if after.findings else "No finding is left.")
    for finding in after.findings:
        where = f"{finding.split}: " if finding.split else ""
        echo(f"  {finding.severity.upper():8}{where}{finding.message}\n          {finding.fix}")
        found = remedy(finding, after.dataset, after.suggestions)
        if found is not None:
            echo(f"          To mend it: --fix {finding.kind}{'' if found.certain else ', if you are sure'}")
    if written is not None:
        echo(f"Wrote {written.folder}: {plural(written.images, 'image')}, {plural(written.objects, 'annotation')}")
        if written.missing:
            names = [f"{split}/{name}" for split, name in written.missing]
            echo(f"  Left out, because their file is missing: {first_names(names)}")
