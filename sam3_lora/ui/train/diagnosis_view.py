"""What a run's losses mean: what is wrong with it on top, then each term beside the range that healthy runs show."""

from __future__ import annotations

import re
from collections.abc import Iterable

import streamlit as st

from sam3_lora.config import RunConfig
from sam3_lora.monitor.diagnosis import Alert
from sam3_lora.monitor.expectations import WINDOW, Range, Verdict
from sam3_lora.monitor.history import TERMS
from sam3_lora.monitor.rolling import RollingMetrics
from sam3_lora.monitor.terms import MAIN, ONE_TO_MANY, split_name
from sam3_lora.text import amount
from sam3_lora.ui.components.layout import escape

MEANINGS = {
    "total": "everything that is minimised",
    "loss_mask": "pixels of the masks",
    "loss_dice": "overlap of the masks",
    "loss_bbox": "distance of the boxes",
    "loss_giou": "overlap of the boxes",
    "loss_ce": "which query found an object",
    "presence_loss": "whether the phrase is in the image",
}
# level -> (word, colour)
_LEVELS = {
    "healthy": ("Healthy", "green"),
    "high": ("High", "orange"),
    "low": ("Low", "blue"),
    "unknown": ("No range", "gray"),
}


def show_symptoms(symptoms: list[Alert]) -> None:
    """One box for each thing that is wrong, the worst first: what is seen, why, and what to do."""
    boxes = {
        "error": (st.error, ":material/error:"),
        "warning": (st.warning, ":material/warning:"),
        "info": (st.info, ":material/info:"),
    }
    for symptom in symptoms:
        box, icon = boxes[symptom.severity]
        box(
            f"**{escape(symptom.message)}**\n\n{escape(symptom.cause)}\n\n**What to do:** {escape(symptom.fix)}",
            icon=icon,
        )


def show_meaning(digest: RollingMetrics, config: RunConfig) -> None:
    """Each term's recent values, the healthy range at this stage, and the verdict in words."""
    verdicts = digest.verdicts(config)
    if not verdicts:
        return
    known = any(verdict.expected for verdict in verdicts.values())
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("What it means", anchor=False, width="stretch")
        every = st.toggle("Every layer", key="meaning-every", persist_state="session")
    st.caption(
        f"Weighted means of the last steps (up to {WINDOW}), and their change since those before."
        + ("" if known else " No healthy ranges are known for this base model on this dataset.")
    )
    shown = [verdict for verdict in _in_order(verdicts) if every or _is_main(verdict.term)]
    head = (
        ["| Term | Healthy&nbsp;here | | In words |", "|:--|--:|:--|:--|"]
        if known
        else ["| Term | In words |", "|:--|:--|"]
    )
    st.markdown("\n".join([*head, *(_row(verdict, known) for verdict in shown)]))
    elsewhere = [verdict for verdict in verdicts.values() if not _is_main(verdict.term) and verdict.level == "high"]
    if elsewhere and not every:
        st.caption(f"Above their ranges in other layers: {_by_term(one.term for one in elsewhere)}.")


def _row(verdict: Verdict, known: bool) -> str:
    """A row of the table; without the columns of ranges where none is known."""
    word, color = _LEVELS[verdict.level]
    meaning = MEANINGS.get(verdict.term, "")
    term = f"**{_named(verdict.term)}** :gray[{meaning}]" if meaning else _named(verdict.term)
    words = escape(re.sub(r"; no healthy range is known\.$", ".", verdict.words))  # said by the badge or above
    if not known:
        return f"| {term} | {words} |"
    return f"| {term} | {_range(verdict.expected)} | :{color}-badge[{word}] | {words} |"


def _range(healthy: Range | None) -> str:
    return "" if healthy is None else f"{amount(healthy.low)}&nbsp;to&nbsp;{amount(healthy.high)}"


def _named(term: str) -> str:
    """ "loss_bbox_aux_1_o2m" -> "loss_bbox, layer 2, one-to-many"."""
    name, group = split_name(term)
    layer = re.search(r"_aux_(\d+)", term)
    parts = [name, f"layer {int(layer.group(1)) + 1}" if layer else "", "one-to-many" if group == "one-to-many" else ""]
    return escape(", ".join(part for part in parts if part))


def _by_term(terms: Iterable[str]) -> str:
    """ "presence_loss (layers 1 and 2), loss_ce, one-to-many (last layer)"."""
    places: dict[str, list[str]] = {}
    for term in terms:
        layer = re.search(r"_aux_(\d+)", term)
        name, group = split_name(term)
        name = f"{name}, one-to-many" if group == ONE_TO_MANY else name
        places.setdefault(name, []).append(str(int(layer.group(1)) + 1) if layer else "last")
    return ", ".join(f"{escape(name)} ({_layers(of)})" for name, of in places.items())


def _layers(places: list[str]) -> str:
    if places == ["last"]:
        return "last layer"
    *before, end = sorted(places, key=lambda place: (place == "last", len(place), place))
    return f"layers {', '.join(before)} and {end}" if before else f"layer {end}"


def _is_main(term: str) -> bool:
    return split_name(term)[1] == MAIN


def _in_order(verdicts: dict[str, Verdict]) -> list[Verdict]:
    """The total, then the terms in the order of the chart's legend, each with its layers behind it."""

    def place(verdict: Verdict) -> tuple[int, bool]:
        name = split_name(verdict.term)[0]
        known = TERMS.index(name) if name in TERMS else len(TERMS)
        return (-1 if name == "total" else known, not _is_main(verdict.term))

    return sorted(verdicts.values(), key=place)
