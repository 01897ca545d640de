"""What helps against what an evaluation found, as buttons: routing by phrase, or a next run with other settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from sam3_lora.config import RunConfig
from sam3_lora.data.phrase_list import join_phrases
from sam3_lora.evaluate.report import Report
from sam3_lora.evaluate.store import run_of
from sam3_lora.evaluate.verdict import Alert, alerts_of
from sam3_lora.monitor.run_verdict import USABLE_F1
from sam3_lora.ui.components.layout import action_button
from sam3_lora.ui.next_run import use_settings

_MAX_REPLAY_WEIGHT, _MAX_NEGATIVES = 100.0, 20
_MEANING = "Prepares a next run with this run's settings and this one changed."


def show(report: Report) -> None:
    """Draws the buttons; nothing where nothing is wrong."""
    alerts = alerts_of(report)
    run = run_of(Path(report.adapter_folder)) if report.adapter_folder else None
    f1 = next((one.adapter for one in report.differences if (one.subject, one.metric) == ("all", "f1_50")), None)
    changes = {} if run is None else changed_settings(alerts, f1, run.asked_config)
    routes = report.routed is not None and any(alert.kind == "forgotten" for alert in alerts)
    if not changes and not routes:
        return
    with st.container(horizontal=True, gap="small", key="remedies"):
        meaning = "Prompts an image on the Inference page: other phrases than the taught ones go to the base model."
        if routes and action_button("Route by phrase", "alt_route", "route-by-phrase", meaning=meaning):
            query = {"adapter": report.adapter_name or "", "route": "true", "ask": "1"}
            query["phrases"] = join_phrases(report.phrases)
            st.switch_page("pages/inference.py", query_params=query)
        for label, settings in changes.items():
            pressed = action_button(label, "restart_alt", f"retrain-{next(iter(settings))}", meaning=_MEANING)
            if pressed and run is not None:
                use_settings(run.asked_config.with_settings(settings))
                st.switch_page(
                    "pages/configure.py", query_params={}
                )  # None cannot clear those that widgets are bound to


def changed_settings(alerts: Sequence[Alert], f1: float | None, config: RunConfig) -> dict[str, dict[str, Any]]:
    """Which settings a next run changes, by what its button says.

    Args:
        alerts: of the evaluation.
        f1: of the adapter's masks.
        config: of the run that was evaluated.
    """
    changes: dict[str, dict[str, Any]] = {}
    if any(alert.kind == "forgotten" for alert in alerts):
        weight = min(2 * config.replay.weight, _MAX_REPLAY_WEIGHT)
        if config.replay.source == "none":
            changes["Retrain with replay"] = {"replay.source": "own"}
        elif weight > config.replay.weight:
            changes[f"Retrain with replay weight {weight:g}"] = {"replay.weight": weight}
    if any(alert.difference is not None and alert.difference.metric == "false_firing" for alert in alerts):
        negatives = min(config.data.num_negatives + 3, _MAX_NEGATIVES)
        if negatives > config.data.num_negatives:
            changes[f"Retrain with {negatives} negative phrases"] = {"data.num_negatives": negatives}
    if f1 is not None and f1 < USABLE_F1:
        epochs = 2 * config.training.epochs
        changes[f"Retrain for {epochs} epochs"] = {"training.epochs": epochs}
    return changes
