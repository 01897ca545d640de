"""The report of an examination, as JSON for programs and as Markdown for people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sam3_lora.data.doctor.statistics import Statistics
from sam3_lora.data.findings.findings import Finding
from sam3_lora.data.findings.titles import title_of
from sam3_lora.markdown import escape, table
from sam3_lora.text import plural

_SHOWN = 10  # places per finding in the Markdown
_ROWS = 50  # of a table
_SEVERITIES = {"error": "Error", "warning": "Warning", "info": "Note"}


@dataclass(frozen=True, slots=True)
class Report:
    """All that is known about a dataset.

    Attributes:
        dataset: its folder.
        format: in words.
        findings: those of opening and of examining, by severity, each kind once per split.
        statistics: of the examined images.
        suggestions: category -> a phrase that SAM 3 understands better.
        looked_at: images examined, fewer than `images` if the examination was cancelled.
        images: of the dataset.
    """

    dataset: str
    format: str
    findings: tuple[Finding, ...]
    statistics: Statistics
    suggestions: dict[str, str]
    looked_at: int
    images: int

    def to_json(self) -> str:
        """One JSON object; each finding with the names of all images that it concerns."""
        statistics = self.statistics
        content = {
            "dataset": self.dataset,
            "format": self.format,
            "images": self.images,
            "looked_at": self.looked_at,
            "splits": {
                name: {
                    "images": images,
                    "objects": sum(statistics.objects_per_category[name].values()),
                    "crowds": sum(statistics.crowds_per_category[name].values()),
                    "categories": statistics.objects_per_category[name],
                    "crowds_per_category": statistics.crowds_per_category[name],
                }
                for name, images in statistics.images.items()
            },
            "findings": [_as_dict(finding) for finding in self.findings],
            "suggestions": self.suggestions,
            "statistics": {
                "object_shares": asdict(statistics.object_shares),
                "aspect_ratios": asdict(statistics.aspect_ratios),
                "objects_per_image": [
                    {"objects": objects, "images": images} for objects, images in statistics.objects_per_image.items()
                ],
                "image_sizes": [
                    {"width": width, "height": height, "images": images}
                    for (width, height), images in statistics.image_sizes.items()
                ],
                "heat_map": statistics.heat_map,
            },
        }
        return json.dumps(content, indent=1, allow_nan=False)

    def to_markdown(self) -> str:
        """A page to read and to share."""
        lines = [f"# Report on {escape(self.dataset)}", "", f"{escape(self.format)}."]
        if self.looked_at < self.images:
            lines += ["", f"Cancelled after {self.looked_at:,} of {plural(self.images, 'image')}."]
        lines += ["", "## Findings", ""]
        lines += [line for finding in self.findings for line in _finding_lines(finding)] or ["Nothing wrong was found."]
        if self.suggestions:
            lines += ["", "## Phrases", "", *_table(("Category", "Better phrase"), list(self.suggestions.items()))]
        return "\n".join([*lines, "", *self._statistics_lines()]) + "\n"

    def _statistics_lines(self) -> list[str]:
        objects, statistics = self.statistics.objects_per_category, self.statistics
        splits = list(objects)
        total = sum((Counter(counts) for counts in objects.values()), Counter())
        crowds = statistics.crowds_per_category
        total.update({name: 0 for counts in crowds.values() for name, count in counts.items() if count})
        rows = [
            (name, *(_counted(objects[split].get(name, 0), crowds[split].get(name, 0)) for split in splits))
            for name, _ in total.most_common()
        ]
        sizes = [(f"{width} x {height}", images) for (width, height), images in statistics.image_sizes.items()]
        lines = ["## Numbers", "", *_table(("Split", "Images"), list(statistics.images.items()))]
        lines += ["", *_table(("Objects of", *splits), rows), "", *_table(("Image size", "Images"), sizes), ""]
        if statistics.object_shares.median is not None:
            share, aspect = statistics.object_shares.median, statistics.aspect_ratios.median
            lines.append(f"Half of the objects cover less than {share:.3%} of their image's area.")
            lines.append(f"The median object is {aspect:.2f} times as wide as high.")
        return lines


def _counted(objects: int, crowds: int) -> int | str:
    return f"{objects:,} + {plural(crowds, 'crowd region')}" if crowds else objects


def _as_dict(finding: Finding) -> dict[str, Any]:
    shown = {name: getattr(finding, name) for name in ("kind", "severity", "split", "count", "message", "fix")}
    places = [asdict(place) for place in finding.locations]
    return shown | {"locations": places, "image_names": finding.image_names}


def _finding_lines(finding: Finding) -> list[str]:
    title = f"### {_SEVERITIES[finding.severity]}: {title_of(finding.kind)}"
    lines = [title + (f" ({escape(finding.split)})" if finding.split else ""), "", escape(finding.message), ""]
    lines += [f"**What to do:** {escape(finding.fix)}", ""]
    places = [text for text in map(str, finding.locations) if text]
    if len(places) > 1:
        lines += [f"- {escape(place)}" for place in places[:_SHOWN]]
        if finding.count > _SHOWN:
            lines.append(f"- and {finding.count - min(len(places), _SHOWN):,} more")
        lines.append("")
    return lines


def _table(titles: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> list[str]:
    lines = table(titles, rows[:_ROWS])
    return lines + [f"| and {len(rows) - _ROWS:,} more |{' |' * (len(titles) - 1)}"] * (len(rows) > _ROWS)
