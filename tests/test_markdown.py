"""Names are text in everything that is Markdown: reports, model cards, and what Streamlit makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from markdown_it import MarkdownIt

from sam3_lora.config import RunConfig
from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.doctor import examine
from sam3_lora.data.prompts import phrase_of
from sam3_lora.evaluate import EvaluationRequest, evaluate
from sam3_lora.evaluate.gain_loss.card import PICTURE, card_section
from sam3_lora.evaluate.text.markdown_report import to_markdown
from sam3_lora.markdown import escape, with_section
from sam3_lora.train.checkpoint import Progress
from sam3_lora.train.model_card import model_card
from tests.evaluate.fake_predictor import FakePredictor, no_loss  # noqa: F401
from tests.factories import coco, write_split
from tests.hostile import CONTROLS, LONG, MARKUP, NAMES, RULES, is_printable, shown

PLAIN = {"text", "softbreak", "code_inline", "strong_open", "strong_close"}
RENDERER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def rendered(text: str) -> tuple[list[str], set[str]]:
    """The texts of the blocks of a Markdown page, and the types of its blocks; nothing in it does anything."""
    tokens = RENDERER.parse(text)
    inlines = [token for token in tokens if token.type == "inline"]
    for inline in inlines:
        acting = {child.type for child in inline.children} - PLAIN
        assert not acting, (acting, inline.content[:200])
    texts = ["".join(child.content for child in inline.children) for inline in inlines]
    texts += [token.content for token in tokens if token.type == "fence"]
    return texts, {token.type for token in tokens}


@pytest.mark.parametrize("name", [*NAMES, *RULES, *CONTROLS])
@pytest.mark.parametrize("around", ["{}", "- {}", "# {}", "| {} | b |\n| --- | --- |\n| {} | b |"])
def test_an_escaped_name_is_shown_as_it_is(name: str, around: str) -> None:
    escaped = escape(name)
    assert is_printable(escaped)
    texts, blocks = rendered(around.format(escaped, escaped))
    plain, expected = rendered(around.format("name", "name"))
    assert blocks == expected
    assert len(texts) == len(plain)
    if name not in CONTROLS:
        assert [text for text in texts if text != "b"] == [shown(name)] * (2 if "|" in around else 1)


def test_a_sentence_stays_readable_in_the_source() -> None:
    assert escape("Not decided: mask mAP goes from 0.1 to 0.2.") == "Not decided: mask mAP goes from 0.1 to 0.2."
    for acting in ("http://a.invalid", "javascript:a", ":red[a]", ":smile:", "::: a", ": a"):
        assert r"\:" in escape(acting)


CARD = "# a\n\ntext\n\n## B\n\n````md\n```\n## Mine\n# no\n```\n````\n\n## C\n\nend\n"


@pytest.mark.parametrize(
    ("before", "place"), [("C", CARD.index("## C")), ("B", CARD.index("## B")), ("none", len(CARD)), ("", len(CARD))]
)
def test_a_section_is_added_once_and_replaced_then(before: str, place: int) -> None:
    once = with_section(CARD, "Mine", "one\n\n- two", before=before)
    added = "## Mine\n\none\n\n- two\n"
    assert once == (f"{CARD}\n{added}" if place == len(CARD) else f"{CARD[:place]}{added}\n{CARD[place:]}")
    assert with_section(once, "Mine", "one\n\n- two", before=before) == once
    assert with_section(once, "Mine", "other", before="A") == once.replace(added, "## Mine\n\nother\n")


def hostile_dataset(folder: Path) -> Path:
    """A split in which category, file and folder names are hostile, and a third of the images is missing."""
    names = [*NAMES, *CONTROLS, LONG]
    data = coco(images=12, objects=len(names), empty_images=0, categories=tuple(names))
    place = folder / "<img src=x onerror=alert(1)>" / "![valid](x)"
    write_split(place, data)
    for number, entry in enumerate(data["images"]):
        if number % 3 == 0:
            entry["file_name"] = f"gone {number} {names[number][:100]}"
    (place / "_annotations.coco.json").write_text(json.dumps(data), encoding="utf-8")
    return place.parent


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory):
    return open_dataset(hostile_dataset(tmp_path_factory.mktemp("data")))


def test_the_report_of_an_examination_shows_names_as_they_are(dataset) -> None:
    page = examine(dataset).to_markdown()
    assert is_printable(page.replace("\n", "")) and len(page) < 100_000
    texts, blocks = rendered(page)
    assert "html_block" not in blocks
    for name in NAMES:
        assert shown(name) in texts


@pytest.mark.usefixtures("no_loss")
def test_the_report_of_an_evaluation_shows_phrases_as_they_are(tmp_path: Path) -> None:
    names = (*MARKUP, LONG)
    write_split(tmp_path / "valid", coco(images=2, objects=len(names), empty_images=0, categories=names))
    dataset = open_dataset(tmp_path)
    (split,) = dataset.splits.values()
    good = {phrase_of(name): (1.0, 0.5) for name in split.categories}
    poor = dict.fromkeys(good, (0.2, 1.0))
    request = EvaluationRequest(
        split, dataset=str(dataset.root), base_name=NAMES[0], adapter_name=NAMES[3], retention_phrases=tuple(good)[:5]
    )
    report = evaluate(FakePredictor(split, good, poor), request)
    section, _ = card_section(report)
    told, of_card = rendered(section.replace(f"![F1 and what is kept]({PICTURE})", ""))
    assert "html_block" not in of_card and report.verdict in told and is_printable(section.replace("\n", ""))
    page = to_markdown(report)
    assert is_printable(page.replace("\n", "")) and len(page) < 100_000
    texts, blocks = rendered(page)
    assert "html_block" not in blocks
    assert any(report.verdict in text for text in texts) and len(report.verdict) < 600
    for name in MARKUP:
        assert phrase_of(name) in texts


def test_a_model_card_shows_names_as_they_are(dataset) -> None:
    (split,) = dataset.splits.values()
    own = {name: f"a\n```\n{name}" for name in NAMES[:5]}
    config = RunConfig().with_settings(
        {
            "data.path": f"/data/{NAMES[1].replace('/', '')}",
            "data.category_phrases": own,
            "model.base": f"someone/x\nlicense: {NAMES[2]}",
        }
    )
    setup = SimpleNamespace(
        config=config,
        data=SimpleNamespace(splits=SimpleNamespace(categories=split.categories, train=split, valid=split)),
        plan=SimpleNamespace(total_steps=9),
    )
    card = model_card(setup, Progress(step=3), "best")
    assert len(card) < 100_000
    header, body = card.removeprefix("---\n").split("\n---\n", 1)
    assert "\nlicense:" not in header
    texts, blocks = rendered(body)
    assert "html_block" not in blocks and len([text for text in texts if "import " in text]) == 1
    assert any(NAMES[3] in text for text in texts)
