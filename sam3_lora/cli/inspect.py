"""The command inspect: what a dataset contains, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sam3_lora.cli.options import AsJson, CrowdsAsObjects, Dataset, DefaultPhrase, EditsOption, ImageDir
from sam3_lora.cli.output import check_report_file, echo, echo_json, progress_bar, write_report
from sam3_lora.text import plural, short

if TYPE_CHECKING:
    from sam3_lora.data.doctor import Report
    from sam3_lora.data.records import Dataset as OpenDataset


def inspect(
    dataset: Dataset,
    deep: Annotated[bool, typer.Option("--deep", help="Also read every image and examine every object.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "--report", help="Write a report to this .md or .json file; implies --deep.")
    ] = None,
    image_dir: ImageDir = "",
    default_phrase: DefaultPhrase = "",
    crowds_as_objects: CrowdsAsObjects = False,
    edits: EditsOption = "",
    as_json: AsJson = False,
) -> None:
    """Show what a dataset contains and what is wrong."""
    from sam3_lora.data.dataset import open_dataset

    check_report_file(out)
    opened = open_dataset(
        dataset, images=image_dir, phrase=default_phrase, crowds_as_objects=crowds_as_objects, edits=edits
    )
    report = _examine(opened) if deep or out is not None else None
    if not as_json:
        _print(opened, report)
    elif report is not None:
        echo_json(json.loads(report.to_json()))
    else:
        _print_json(opened)
    if report is not None and out is not None:  # last, so that what was found is printed in any case
        write_report(out, report.to_markdown() if out.suffix == ".md" else report.to_json())


def _examine(dataset: OpenDataset) -> Report:
    from sam3_lora.data.doctor import examine

    with progress_bar("Examining every image") as progress:
        return examine(dataset, progress)


def _print_json(dataset: OpenDataset) -> None:
    splits = {
        name: {
            "images": len(split.images),
            "objects": split.num_objects,
            "crowds": split.num_crowds,
            "categories": split.objects_per_category(),
            "crowds_per_category": split.crowds_per_category(),
        }
        for name, split in dataset.splits.items()
    }
    findings = [
        {"kind": f.kind, "severity": f.severity, "count": f.count, "message": f.message, "fix": f.fix}
        for f in dataset.findings
    ]
    echo_json({"format": dataset.format, "splits": splits, "findings": findings})


def _print(dataset: OpenDataset, report: Report | None) -> None:
    echo(f"{dataset.root}: {dataset.format}")
    for name, split in dataset.splits.items():
        crowds = split.crowds_per_category()
        counts = ", ".join(
            f"{short(category)} {count}" + (f" + {plural(crowds[category], 'crowd')}" if crowds[category] else "")
            for category, count in split.objects_per_category().items()
        )
        also = f" and {plural(split.num_crowds, 'crowd region')}, not learned" if split.num_crowds else ""
        echo(f"  {name}: {len(split.images)} images, {split.num_objects} objects{also} ({counts or 'no category'})")
    findings = dataset.findings if report is None else report.findings
    nothing = "No problems found." if report else "No problems found in the annotations; --deep examines the images."
    echo("Findings:" if findings else nothing)
    for finding in findings:
        where = f"{finding.split}: " if finding.split else ""
        echo(f"  {finding.severity.upper():8}{where}{finding.message}\n          {finding.fix}")
    for category, phrase in (report.suggestions if report is not None else {}).items():
        echo(f"  Better phrase for {short(category)!r}: {short(phrase)!r}.")
