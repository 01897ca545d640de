"""Makes the two sentences of a finding, what is wrong and what to do, from its kind and its facts.

To add a finding: write its sentences in one of the messages_*.py under its severity, and call
:meth:`sam3_lora.data.findings.findings.FindingCollector.add` where the problem is met.
"""

from __future__ import annotations

from collections.abc import Mapping

from sam3_lora.data.findings import (
    messages_annotations,
    messages_doctor,
    messages_edits,
    messages_formats,
    messages_prompts,
    messages_values,
)
from sam3_lora.text import plural, short_repr

Fact = int | float | str | tuple[str, ...]  # a tuple holds names from the dataset, which are quoted and shortened

_MODULES = (messages_values, messages_annotations, messages_formats, messages_doctor, messages_prompts, messages_edits)

ERRORS = {kind: words for module in _MODULES for kind, words in module.ERRORS.items()}
WARNINGS = {kind: words for module in _MODULES for kind, words in module.WARNINGS.items()}
INFOS = {kind: words for module in _MODULES for kind, words in module.INFOS.items()}
# Every kind of finding -> (what is wrong, what to do), in the order in which findings of one severity are listed.
WORDINGS = ERRORS | WARNINGS | INFOS
# (kind, variant) -> its own words, where the advice depends on the cause or on the format; None: those of the kind.
VARIANTS: dict[tuple[str, str], tuple[str | None, str | None]] = {
    key: words for module in _MODULES for key, words in getattr(module, "VARIANTS", {}).items()
}

CAUSES = messages_values.CAUSES  # cause -> in words

_SINGULAR = {"are": "is", "have": "has", "they": "it", "them": "it", "their": "its", "were": "was"}
_SINGULAR |= {"They": "It", "entries": "entry", "lines": "line", "names": "name"}
_SINGULAR |= {verb: verb + "s" for verb in ("share", "name", "repeat", "read", "look", "fall", "appear")}
_PLURAL = {word: word for word in _SINGULAR}


def message(kind: str, variant: str, count: int, facts: Mapping[str, Fact]) -> str:
    """What is wrong, without a full stop.

    Args:
        kind, variant, count, facts: the fields of :class:`sam3_lora.data.findings.findings.Finding`.
    """
    return _filled(_wording(kind, variant, 0), count, facts)


def fix(kind: str, variant: str, count: int, facts: Mapping[str, Fact]) -> str:
    """What to do about it, without a full stop.

    Args:
        kind, variant, count, facts: the fields of :class:`sam3_lora.data.findings.findings.Finding`.
    """
    return _filled(_wording(kind, variant, 1), count, facts)


def _wording(kind: str, variant: str, part: int) -> str:
    return VARIANTS.get((kind, variant), (None, None))[part] or WORDINGS[kind][part]


def _filled(template: str, count: int, facts: Mapping[str, Fact]) -> str:
    """The template with its facts and with words that agree with the count: {images}, {are}, {they}, ..."""
    values: dict[str, Fact] = {**(_SINGULAR if count == 1 else _PLURAL), "count": count}
    values |= {
        plural(2, noun)[2:]: plural(count, noun) for noun in ("image", "annotation", "category", "file", "key", "value")
    }
    for name, value in facts.items():
        values[name] = ", ".join(map(short_repr, value)) if isinstance(value, tuple) else value
    return template.format(**values)
