"""What the person's answers make of an image: what was accepted, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam3_lora.label.decisions import LabelObject
from sam3_lora.label.work import Answer, DrawnBox, Work, compare, disagreement
from sam3_lora.masks import encode_rle

SIZE_HW = (100, 200)
PHRASES = ("crack", "pothole")


def at(left: int, phrase: str = "crack", score: float | None = 0.6, source: str = "model", **options) -> LabelObject:
    mask = np.zeros(SIZE_HW, bool)
    mask[10:30, left : left + 20] = True
    return LabelObject(phrase, (left, 10, left + 20, 30), encode_rle(mask), score, source, **options)  # type: ignore[arg-type]


def label(left: int, phrase: str = "crack", **options) -> LabelObject:
    return at(left, phrase, None, "annotation", **options)


def begin() -> Work:
    return Work.begin("a.jpg", SIZE_HW, "demo", [at(0, score=0.5), at(50, score=0.9), at(100)])


def answer(work: Work, **options) -> Answer:
    return Answer(1, work.image, **options)


def test_accepting_all():
    work = begin()
    assert [item.object.score for item in work.items] == [0.9, 0.6, 0.5] and work.num_open == 3
    work.apply(answer(work, states={item.id: "accepted" for item in work.items}))
    decision = work.decision()
    assert len(decision.objects) == decision.proposed == 3 and decision.corrections == 0


def test_correcting():
    work = begin()
    first, second, _ = (item.id for item in work.items)
    box = DrawnBox("b1", "joint", (150, 10, 170, 30))
    given_answer = answer(
        work, states={first: "rejected", second: "accepted"}, phrases={second: "pothole"}, boxes=(box,)
    )
    assert work.apply(given_answer) == [box]
    work.add("b1", at(150, "joint", None, "drawn"))
    assert work.apply(given_answer) == [], "nobody asks twice about a box"
    decision = work.decision()
    assert [one.phrase for one in decision.objects] == ["pothole", "joint"], "what is open is no object"
    assert (decision.rejected, decision.relabelled, decision.drawn, decision.corrections) == (2, 1, 1, 4)
    again = Work.again(decision)
    assert again.num_open == 0 and again.decision().objects == decision.objects and not again.is_untouched


def test_labels_and_proposals_are_compared():
    labels = [label(0), label(30), label(60), label(90), label(120, "boat"), label(160, iscrowd=True)]
    proposed = [
        at(0, score=0.9),  # agrees with the first
        at(34, score=0.8),  # the second with another mask, IoU 2/3
        at(60, "pothole", 0.7),  # the third under another phrase
        at(180, "pothole", 0.6),  # nothing there
    ]
    items = {item.id: item for item in compare(labels, proposed, SIZE_HW, PHRASES)}
    assert {name: (item.state, item.doubt, item.rival) for name, item in items.items()} == {
        "a0": ("accepted", None, ""),
        "a1": ("open", "poor-mask", "m1"),
        "m1": ("open", "poor-mask", "a1"),
        "a2": ("open", "wrong-class", "m2"),
        "m2": ("open", "wrong-class", "a2"),
        "a3": ("open", "not-found", ""),
        "m3": ("open", "missed", ""),
        "a4": ("accepted", None, ""),
        "a5": ("accepted", None, ""),
    }
    assert items["a4"].kept and items["a5"].kept and not items["a0"].kept
    states = [item.state for item in items.values()]
    assert states == sorted(states, reverse=True), "what is open comes first"
    assert disagreement(list(items.values())) == pytest.approx(0.8 + 0.7 + 0.5 + 0.6)
    assert disagreement(compare(labels[:1], proposed[:1], SIZE_HW, PHRASES)) == 0


def test_a_review_keeps_what_it_is_not_about():
    labels = [label(0), label(60, "boat"), label(160, iscrowd=True)]
    work = Work.begin("a.jpg", SIZE_HW, "demo", [at(5, score=0.8)], labels, PHRASES)
    work.apply(answer(work, states={"a0": "rejected", "m0": "accepted"}))
    decision = work.decision()
    assert {(one.phrase, one.source, one.iscrowd) for one in decision.objects} == {
        ("crack", "model", False),
        ("boat", "annotation", False),
        ("crack", "annotation", True),
    }
    assert decision.corrections == 0 or decision.rejected == 0, "a mask that takes a label's place is one decision"


def test_new_proposals_replace_open_ones_of_the_phrase():
    work = begin()
    first = work.items[0].id
    work.apply(answer(work, states={first: "accepted"}, boxes=(DrawnBox("n1", "crack", (0, 0, 9, 9), False),)))
    assert work.unlike("crack") == [(0, 0, 9, 9)] and work.unlike("pothole") == []
    work.replace_open("n1", "crack", [at(52), at(120)])
    assert [(item.object.box_xyxy[0], item.state) for item in work.items] == [(50, "accepted"), (120, "open")]


states = st.dictionaries(
    st.sampled_from(["m0", "m1", "m2", "b0", "gone"]), st.sampled_from(["open", "accepted", "rejected"])
)
phrases = st.dictionaries(st.sampled_from(["m0", "m1", "b0"]), st.sampled_from(["pothole", "crack", " "]))


@given(st.lists(st.tuples(states, phrases, st.booleans(), st.booleans())))
def test_any_answers(answers):
    work = begin()
    for number, (given_states, given_phrases, draw, ask) in enumerate(answers):
        boxes = (*work.boxes, *([DrawnBox(f"b{number}", "crack", (1, 1, 9, 9))] if draw else []))
        for box in work.apply(answer(work, states=given_states, phrases=given_phrases, boxes=boxes)):
            work.add(box.id, at(150, "joint", None, "drawn"))
        if ask:
            work.replace_open(f"n{number}", "crack", [at(70)])
        assert len({item.id for item in work.items}) == len(work.items)
        decision = work.decision()
        assert len(decision.objects) == sum(item.state == "accepted" for item in work.items)
        assert all(one.phrase.strip() for one in decision.objects)
        assert 0 <= decision.corrections <= 2 * len(work.items)
