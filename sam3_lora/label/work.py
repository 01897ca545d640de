"""The image that a tab labels now: its objects with what the person made of each, until the image is confirmed."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from sam3_lora.label.decisions import Decision, LabelObject
from sam3_lora.label.proposals import iou

ItemState = Literal["open", "accepted", "rejected"]
# Why model and annotations disagree: an object that is not annotated, that has another phrase or a poor mask there, or
# an annotation where the model finds nothing.
Doubt = Literal["missed", "wrong-class", "poor-mask", "not-found"]
Box = tuple[float, float, float, float]
Text = Annotated[str, Meta(max_length=3000)]

SAME_IOU = 0.5  # from which on two objects are one
GOOD_IOU = 0.7  # from which on two masks agree
_LONGEST_S = 600.0  # a longer time is a break, not work


@dataclass(frozen=True)
class Item:
    """An object of the image.

    Attributes:
        id: within the image.
        object: as it was proposed, annotated or drawn.
        state: what the person decided.
        phrase: that the person gave it.
        doubt: why it is asked about in a review; None outside of one.
        rival: id of the item for the same object of the other side: of two rivals one is accepted at most.
        kept: part of the dataset that is not reviewed: crowds, and phrases that nobody asked for.
    """

    id: str
    object: LabelObject
    state: ItemState = "open"
    phrase: str = ""
    doubt: Doubt | None = None
    rival: str = ""
    kept: bool = False

    def __post_init__(self) -> None:
        if not self.phrase:
            object.__setattr__(self, "phrase", self.object.phrase)


class DrawnBox(msgspec.Struct, frozen=True):
    """A box that the person drew: around an object, or around what is no object of the phrase."""

    id: Text
    phrase: Text
    box_xyxy: Box
    positive: bool = True


class Answer(msgspec.Struct, frozen=True):
    """All that the person has decided about the image so far.

    Attributes:
        number: counts the answers of a tab.
        image: its name.
        states, phrases: by the ids of items.
        boxes: all that were drawn.
        incomplete: whether there are more objects than marked.
        go: where the person goes from here: to the next image, to the one before, or nowhere.
    """

    number: int
    image: Text
    states: dict[Text, ItemState] = {}
    phrases: dict[Text, Text] = {}
    boxes: tuple[DrawnBox, ...] = ()
    incomplete: bool = False
    go: Literal["", "next", "previous"] = ""


@dataclass
class Work:
    """An image in progress.

    Attributes:
        image: its name.
        size_hw: height and width in pixels.
        model: that proposed.
        items: in the order in which they are asked about.
        absent, partly: phrases beside those that are asked for, of which the dataset that is reviewed says that no
            object, or not every object, is annotated.
        incomplete: whether there are more objects that nobody marked.
        boxes: that were drawn.
        is_reopened: whether it was decided before.
        started: when the image was shown, by time.monotonic().
    """

    image: str
    size_hw: tuple[int, int]
    model: str
    items: list[Item]
    absent: tuple[str, ...] = ()
    partly: tuple[str, ...] = ()
    incomplete: bool = False
    boxes: tuple[DrawnBox, ...] = ()
    is_reopened: bool = False
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def begin(
        cls,
        image: str,
        size_hw: tuple[int, int],
        model: str,
        proposed: Sequence[LabelObject],
        annotated: Sequence[LabelObject] | None = None,
        phrases: Collection[str] = (),
    ) -> Work:
        """An image with its proposals.

        Args:
            image: its name.
            size_hw: its size.
            model: that proposed.
            proposed: by the model.
            annotated: what the dataset that is reviewed has already; None outside of a review.
            phrases: that are asked for; annotations of others are kept unasked.
        """
        proposed = sorted(proposed, key=lambda one: -(one.score or 0.0))
        if annotated is None:
            return cls(image, size_hw, model, [Item(f"m{place}", one) for place, one in enumerate(proposed)])
        return cls(image, size_hw, model, compare(annotated, proposed, size_hw, phrases))

    @classmethod
    def again(cls, before: Decision) -> Work:
        """An image that was decided, opened again."""
        items = [Item(f"k{place}", one, "accepted") for place, one in enumerate(before.objects)]
        work = cls(before.image, before.size_hw, before.model, items, incomplete=before.incomplete, is_reopened=True)
        work.absent, work.partly = before.absent, before.partly
        return work

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was decided about a proposal, nor before."""
        mine = [item for item in self.items if item.object.source == "model"]
        return not self.is_reopened and not self.boxes and all(item.state == "open" for item in mine)

    @property
    def num_open(self) -> int:
        """Items that nobody decided about yet."""
        return sum(item.state == "open" for item in self.items)

    def apply(self, answer: Answer) -> list[DrawnBox]:
        """Takes over what an answer says; returns the boxes that are new, about which the model is to be asked."""
        self.items = [
            replace(
                item,
                state=answer.states.get(item.id, item.state),
                phrase=answer.phrases.get(item.id, "").strip() or item.phrase,
            )
            for item in self.items
        ]
        self.incomplete = answer.incomplete
        known = {box.id for box in self.boxes}
        self.boxes = answer.boxes
        return [box for box in answer.boxes if box.id not in known]

    def add(self, id: str, drawn: LabelObject) -> None:
        """Adds an object that the person drew."""
        self.items.append(Item(id, drawn, "accepted"))

    def replace_open(self, prefix: str, phrase: str, proposed: Sequence[LabelObject]) -> None:
        """Replaces the open proposals of a phrase by new ones, without those of objects that are decided already.

        Args:
            prefix: of the ids of the new ones.
            phrase: that was asked for again.
            proposed: by the model.
        """

        def is_open(item: Item) -> bool:
            return item.state == "open" and item.phrase == phrase and item.object.source == "model"

        kept = [item for item in self.items if not is_open(item)]
        decided = [item.object for item in kept if item.phrase == phrase]
        new = [one for one in proposed if all(iou(one, other, self.size_hw) < SAME_IOU for other in decided)]
        self.items = kept + [Item(f"{prefix}-{place}", one) for place, one in enumerate(new)]

    def unlike(self, phrase: str) -> list[Box]:
        """The boxes that show what is no object of a phrase."""
        return [box.box_xyxy for box in self.boxes if not box.positive and box.phrase == phrase]

    def decision(self) -> Decision:
        """What is decided: objects that were not accepted are none."""
        accepted = [item for item in self.items if item.state == "accepted"]
        others = [item for item in self.items if item.state != "accepted"]
        replaced = {item.rival for item in accepted}  # one correction, not two
        drawn = [item for item in accepted if item.object.source == "drawn"]
        return Decision(
            image=self.image,
            size_hw=self.size_hw,
            objects=tuple(msgspec.structs.replace(item.object, phrase=item.phrase) for item in accepted),
            absent=self.absent,
            partly=self.partly,
            incomplete=self.incomplete,
            proposed=sum(item.object.source == "model" for item in self.items),
            rejected=sum(item.object.source != "drawn" and item.id not in replaced for item in others),
            drawn=len(drawn),
            relabelled=sum(item.phrase != item.object.phrase for item in accepted if item not in drawn),
            seconds=round(min(time.monotonic() - self.started, _LONGEST_S), 2),
            model=self.model,
        )


def compare(
    annotated: Sequence[LabelObject],
    proposed: Sequence[LabelObject],
    size_hw: tuple[int, int],
    phrases: Collection[str],
) -> list[Item]:
    """Annotations and proposals as items: what disagrees comes first, what agrees is accepted already.

    Args:
        annotated: objects of the dataset.
        proposed: of the model.
        size_hw: of the image.
        phrases: that the model was asked for.
    """
    reviewed = {f"a{place}": one for place, one in enumerate(annotated) if one.phrase in phrases and not one.iscrowd}
    kept = [
        Item(f"a{place}", one, "accepted", kept=True)
        for place, one in enumerate(annotated)
        if f"a{place}" not in reviewed
    ]
    left = {f"m{place}": one for place, one in enumerate(proposed)}
    found = {label: {name: iou(one, other, size_hw) for name, other in left.items()} for label, one in reviewed.items()}
    doubtful: list[Item] = []
    agreed: list[Item] = []
    for label in sorted(reviewed, key=lambda name: -max(found[name].values(), default=0.0)):
        one = reviewed[label]
        near = {name: value for name, value in found[label].items() if value >= SAME_IOU and name in left}
        same = {name: value for name, value in near.items() if left[name].phrase == one.phrase}
        best = max(same or near, key=lambda name: near[name], default=None)
        if best is None:
            doubtful.append(Item(label, one, doubt="not-found"))
        elif same and near[best] >= GOOD_IOU:
            agreed.append(Item(label, one, "accepted"))
            del left[best]
        else:
            doubt: Doubt = "poor-mask" if same else "wrong-class"
            doubtful += [Item(label, one, doubt=doubt, rival=best)]
            doubtful += [Item(best, left.pop(best), doubt=doubt, rival=label)]
    missed = [Item(name, one, doubt="missed") for name, one in left.items()]
    return doubtful + missed + agreed + kept


def disagreement(items: Sequence[Item]) -> float:
    """How much model and annotations disagree about an image: all doubts, each by how sure the model is."""
    total = 0.0
    for item in items:
        if item.doubt == "not-found":
            total += 0.5
        elif item.doubt is not None and item.object.source == "model":
            total += item.object.score or 0.0
    return total
