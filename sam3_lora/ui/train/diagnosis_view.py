"""Diagnosis of a run: alerts on top, then each loss term beside the range that healthy runs show."""

from __future__ import annotations

import re
from collections.abc import Iterable

import streamlit as st

from sam3_lora.config import RunConfig
from sam3_lora.monitor.diagnosis import Alert
from sam3_lora.monitor.healthy_ranges import WINDOW, Range, Verdict
from sam3_lora.monitor.history import TERMS
from sam3_lora.monitor.messages import describe_alert, describe_range, describe_verdict
from sam3_lora.monitor.term_trends import term_trends
from sam3_lora.monitor.terms import MAIN, ONE_TO_MANY, split_name
from sam3_lora.runs.run import Run
from sam3_lora.ui.components.layout import escape
from sam3_lora.ui.runs import follow
from sam3_lora.ui.train.term_charts import show_term_charts

MEANINGS = {
    "total": "the sum that is minimized",
    "loss_mask": "mask pixels",
    "loss_dice": "mask overlap",
    "loss_bbox": "box distance",
    "loss_giou": "box overlap",
    "loss_ce": "object scores",
    "presence_loss": "whether the phrase is in the image",
}
# level -> (word, color)
_LEVELS = {
    "healthy": ("In range", "green"),
    "high": ("Above range", "orange"),
    "low": ("Below range", "blue"),
    "unknown": ("No range", "gray"),
    "off": ("Off", "gray"),
}


def show_alerts(alerts: list[Alert], config: RunConfig) -> None:
    """Draws one box per alert, errors first: what is wrong, why, and what to do.

    Args:
        alerts: of the run.
        config: of the run.
    """
    boxes = {"error": st.error, "warning": st.warning, "info": st.info}
    for alert in alerts:
        text = describe_alert(alert, config)
        boxes[alert.severity](
            f"**{escape(text.message)}**\n\n{escape(text.cause)}\n\n**What to do:** {escape(text.fix)}",
            icon=f":material/{alert.severity}:",
        )


def show_diagnosis(run: Run) -> None:
    """Draws a small chart of each term of a run with its healthy band, or a table of all layers."""
    followed = follow(run)
    config = followed.config
    if config is None or not (verdicts := followed.rolling.verdicts(config)):
        return
    known = any(verdict.expected for verdict in verdicts.values())
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Diagnosis", anchor=False, width="stretch")
        every = st.toggle("Table of all layers", key="diagnosis-all-layers", persist_state="session")
    st.caption(
        f"Weighted loss terms: the mean of the last steps (at most {WINDOW}) and its change from as many before."
        + ("" if known else " No usual ranges are known for this base model and dataset.")
    )
    if every:
        head = ["| Term | Assessment |", "|:--|:--|"]
        if known:
            head = ["| Term | Usual&nbsp;range | | Assessment |", "|:--|--:|:--|:--|"]
        st.markdown("\n".join([*head, *(_row(verdict, known) for verdict in _in_order(verdicts))]))
    else:
        show_term_charts(term_trends(followed.history, config, verdicts), MEANINGS, _LEVELS)
    elsewhere = [verdict for verdict in verdicts.values() if not _is_main(verdict.term) and verdict.level == "high"]
    if elsewhere and not every:
        st.caption(f"High in other layers: {_by_term(one.term for one in elsewhere)}.")


def _row(verdict: Verdict, known: bool) -> str:
    """A row of the table; without the columns of ranges where none is known."""
    word, color = _LEVELS[verdict.level]
    meaning = MEANINGS.get(verdict.term, "")
    term = f"**{_named(verdict.term)}** :gray[{meaning}]" if meaning else _named(verdict.term)
    words = escape(describe_verdict(verdict))
    if not known:
        return f"| {term} | {words} |"
    return f"| {term} | {_range(verdict.expected)} | :{color}-badge[{word}] | {words} |"


def _range(healthy: Range | None) -> str:
    return "" if healthy is None else describe_range(healthy).replace(" ", "&nbsp;")


def _named(term: str) -> str:
    """ "loss_bbox_aux_1_o2m" -> "loss_bbox, layer 2, one-to-many"."""
    name, group = split_name(term)
    layer = _layer(term)
    parts = [name, f"layer {layer}" if layer else "", ONE_TO_MANY if group == ONE_TO_MANY else ""]
    return escape(", ".join(part for part in parts if part))


def _by_term(terms: Iterable[str]) -> str:
    """ "presence_loss (layers 1, 2), loss_ce, one-to-many (last layer)"."""
    layers: dict[str, list[int | None]] = {}
    for term in terms:
        name, group = split_name(term)
        layers.setdefault(f"{name}, {ONE_TO_MANY}" if group == ONE_TO_MANY else name, []).append(_layer(term))
    return ", ".join(f"{escape(name)} ({_layers(of)})" for name, of in layers.items())


def _layers(layers: list[int | None]) -> str:
    numbers = [str(layer) for layer in sorted(layer for layer in layers if layer)]
    words = [f"layer{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"] if numbers else []
    return " and ".join([*words, "last layer"] if None in layers else words)


def _layer(term: str) -> int | None:
    """The auxiliary layer of a term, from 1; None for the last layer."""
    found = re.search(r"_aux_(\d+)", term)
    return int(found[1]) + 1 if found else None


def _is_main(term: str) -> bool:
    return split_name(term)[1] == MAIN


def _in_order(verdicts: dict[str, Verdict]) -> list[Verdict]:
    """The total, then the terms in the order of the chart's legend, each followed by its layers."""
    order = {name: place for place, name in enumerate(("total", *TERMS))}

    def place(verdict: Verdict) -> tuple[int, bool]:
        return order.get(split_name(verdict.term)[0], len(order)), not _is_main(verdict.term)

    return sorted(verdicts.values(), key=place)
