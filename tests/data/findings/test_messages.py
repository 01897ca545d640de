"""Every kind of finding has its two sentences, in the singular and in the plural."""

from __future__ import annotations

import re
import string

import pytest

from sam3_lora.data.findings import messages
from sam3_lora.data.findings.findings import Finding, FindingCollector, Location, by_severity

# Words that agree with the count, and are no facts.
AGREEING = set("They count images annotations categories files are have they them their were entries lines".split())
AGREEING |= set("share name repeat read look fall appear".split())
VARIANTS = [(kind, "") for kind in messages.WORDINGS] + list(messages.VARIANTS)


def fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


@pytest.mark.parametrize(("kind", "variant"), VARIANTS)
@pytest.mark.parametrize("count", [1, 2])
def test_every_kind_has_two_sentences(kind, variant, count):
    templates = [*messages.WORDINGS[kind], *filter(None, messages.VARIANTS.get((kind, variant), ()))]
    needed = set().union(*map(fields, templates)) - AGREEING
    finding = Finding(kind, "info", count, variant=variant, facts=dict.fromkeys(needed, 7))
    for sentence in (finding.message, finding.fix):
        assert sentence.endswith(".") and not sentence.endswith("..") and "{" not in sentence.replace("{...}", "")
        assert "  " not in sentence


def test_no_kind_has_two_severities_and_every_variant_has_its_kind():
    assert len(messages.WORDINGS) == len(messages.ERRORS) + len(messages.WARNINGS) + len(messages.INFOS)
    assert {kind for kind, _ in messages.VARIANTS} <= messages.WORDINGS.keys()


@pytest.mark.parametrize("kind", ["flags-not-read", "phrases-not-read", "keys-not-read", "listed-category-unknown"])
@pytest.mark.parametrize("count", [1, 2])
def test_keys_and_values_are_counted(kind, count):
    noun = "value" if kind == "listed-category-unknown" else "key"
    assert Finding(kind, "info", count).message.startswith(f"{count} {noun}{'s' * (count > 1)} ")


def test_words_agree_with_the_count_and_name_the_first_place():
    one = Finding("image-missing", "error", 1, locations=(Location("a.png"),))
    many = Finding("image-missing", "error", 1200, locations=(Location("a.png"), Location("b.png")))
    assert one.message == "1 image named in the annotation file is missing (a.png)."
    assert many.message == "1,200 images named in the annotation file are missing (the first: a.png)."
    assert many.fix.startswith("Put them beside the JSON file or into images/, or delete their entries")


def test_names_from_a_file_are_quoted_and_shortened():
    finding = Finding("masks-wrong-key", "error", 1, facts={"keys": ("polygon", "x" * 500)})
    assert "'polygon', 'xxx" in finding.message and len(finding.message) < 200


def test_formats_have_their_own_words():
    findings = {format: FindingCollector("train", format) for format in ("", "yolo")}
    for collector in findings.values():
        collector.add("bad-bbox", "a.png", 1)
        collector.add("bad-iscrowd", "a.png", 1)
    (plain, same), (yolo, also) = (collector.collected() for collector in findings.values())
    assert (plain.variant, yolo.variant) == ("", "yolo") and plain.fix != yolo.fix
    assert same == also


def test_the_worst_severity_of_the_occurrences_counts():
    collector = FindingCollector()
    for severity in ("info", "warning", "info"):
        collector.add("image-rotated", "a.png", severity=severity)
    assert [(finding.count, finding.severity) for finding in collector.collected()] == [(3, "warning")]


def test_findings_are_sorted_by_severity_and_then_by_the_tables():
    kinds = ["unused-category", "tiny-object", "bad-segmentation", "image-missing", "annotations-wrong-key"]
    collector = FindingCollector()
    for kind in kinds:
        collector.add(kind)
    assert [finding.kind for finding in by_severity(collector.collected())] == [
        "annotations-wrong-key",
        "image-missing",
        "bad-segmentation",
        "tiny-object",
        "unused-category",
    ]


def test_what_is_forgotten_is_no_finding():
    collector = FindingCollector()
    collector.add("size-mismatch", "a.png")
    collector.mention("bad-image-size", ["a.png"])
    assert collector.concerns("bad-image-size", "a.png")
    collector.forget("size-mismatch", "a.png")
    assert collector.collected() == [] and collector.count("size-mismatch") == 0


def test_every_sentence_begins_with_a_capital():
    for words in (*messages.WORDINGS.values(), *messages.VARIANTS.values()):
        for template in filter(None, words):
            assert not re.search(r"\. (\{th|[a-z])", template), template
