"""What the training page shows of one run in words and numbers: where it stands, its last step, its adapters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import streamlit as st

from sam3_lora.monitor.diagnosis import Alert
from sam3_lora.monitor.history import GROUPS, History, last_step_table
from sam3_lora.runs.run import Run, Status
from sam3_lora.text import amount
from sam3_lora.ui.components.layout import escape
from sam3_lora.ui.next_run import use_settings
from sam3_lora.ui.resources import runs_folder
from sam3_lora.ui.runs import STATES, progress_sentence
from sam3_lora.ui.train.controls import ONE_SHOT_REQUESTS

_LOG_LINES = 200


def show_status(run: Run, status: Status, symptoms: Sequence[Alert] = ()) -> None:
    """The state in words, the progress, and why it ended so, unless one of the symptoms says it already."""
    words, color, icon = STATES[status.state]
    st.markdown(f":{color}-badge[:material/{icon}: {words}] {progress_sentence(status)}")
    if status.total_steps:
        st.progress(min(status.step / status.total_steps, 1.0))
    asked = [what for what in ONE_SHOT_REQUESTS if what in run.requests()]
    if status.active and asked:
        when = "being done now" if status.state == "paused" else "after the step in progress"
        st.caption(f":material/schedule: Asked to {', '.join(asked)}: {when}.")
    is_told = any(status.message.startswith(symptom.message.rstrip(".")) for symptom in symptoms)
    if status.state == "failed" and not is_told:
        st.error(escape(status.message) or "The log below says why.", icon=":material/error:")
    elif status.state == "crashed":
        st.warning(f"{escape(status.message)} {_way_on(run)}", icon=":material/power_off:")
    elif status.message and not is_told:
        st.caption(escape(status.message))
    if status.reload_proof not in ("", "ok"):
        st.warning(f"**Reload proof failed.** {escape(status.reload_proof)}", icon=":material/warning:")
    if status.skipped_steps:
        many = f"{status.skipped_steps:,} step{'s' if status.skipped_steps > 1 else ''}"
        st.caption(f":material/warning: {many} did not fit into memory and did nothing; the log names the images.")


def _way_on(run: Run) -> str:
    checkpoints = run.checkpoints()
    if not checkpoints:
        return "It had no checkpoint yet: start it again with its settings, which are below."
    return f"Resume goes on after step {int(checkpoints[0].stem.removeprefix('step-')):,}."


def show_numbers(status: Status, history: History) -> None:
    """The numbers of the moment."""
    columns = st.columns(7, gap="small")
    columns[0].metric("Total loss", amount(history.totals[-1], 4))
    best = status.best_validation_loss
    columns[1].metric(
        "Best validation",
        "none yet" if best is None else amount(best, 4),
        help="The lowest validation loss"
        + (" so far." if status.best_step is None else f": after step {status.best_step:,}, kept as adapters/best."),
    )
    f1 = history.validation[-1].f1 if history.validation else math.nan
    columns[2].metric(
        "Validation F1",
        "none yet" if math.isnan(f1) else f"{f1:.2f}",
        help="How many boxes are found and right on the validation images at a score of 0.5: 1 is all of them, 0 none.",
    )
    columns[3].metric("Images per second", f"{history.speeds[-1]:.3g}")
    columns[4].metric("Gradient norm", amount(history.gradient_norms[-1]), help="Before clipping.")
    columns[5].metric("Learning rate", f"{history.learning_rates[-1]:.3g}")
    memory = status.memory_bytes
    columns[6].metric("Memory", "unknown" if memory is None else f"{memory / 1e9:.2f} GB")


def show_last_step(history: History) -> None:
    """Each weighted term of the newest step and what it contributes."""
    row = history.last
    if row is None:
        st.caption("There is no step yet.")
        return
    table = pd.DataFrame(last_step_table(row["terms"], row.get("raw", {})))
    st.caption(f"Step {row['step']:,}: weighted terms by where they come from, and their share of the total.")
    number = st.column_config.NumberColumn
    st.dataframe(
        table,
        hide_index=True,
        column_order=["term", *GROUPS, "weighted", "share", "raw"],
        column_config={
            "term": "Term",
            "main": number("Main layer", format="%.3f"),
            "auxiliary": number("Auxiliary layers", format="%.3f"),
            "one-to-many": number("One-to-many", format="%.3f"),
            "weighted": number("Weighted", format="%.3f"),
            "share": st.column_config.ProgressColumn("Share of total", format="percent", min_value=0, max_value=1),
            "raw": number("Raw, main layer", format="%.4f"),
        },
        placeholder="",
        alt="Terms of the last step",
    )


def show_log(run: Run) -> None:
    """The end of the log, scrolled down to its newest line."""
    text = run.log_tail(_LOG_LINES)
    if not text:
        st.caption("Nothing has been logged yet.")
        return
    fits = text.count("\n") < 12
    with st.container(height="content" if fits else 320, autoscroll=not fits, border=False):
        st.code(text, language=None)


def show_settings(run: Run) -> None:
    """What the run was started with, and the way to use it again."""
    config = run.config
    st.code(config.to_yaml(), language="yaml", height=320)
    if st.button("Use for the next run", icon=":material/tune:", key="use-settings"):
        use_settings(config)
        st.rerun(scope="app")


def show_adapters(run: Run, status: Status) -> None:
    """The adapters saved so far, what can be done with them, and whether they load as they should."""
    adapters = run.adapters()
    if not adapters:
        st.caption("The first adapter is saved with the first checkpoint or evaluation.")
        return
    for name, folder in adapters.items():
        meaning = "the last one saved"
        if name == "best":
            after = "" if status.best_step is None else f", after step {status.best_step:,}"
            meaning = f"lowest validation loss{after}"
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{name.capitalize()}**, {meaning}: `{folder}`", width="stretch")
            if not status.active:
                st.page_link(
                    "pages/inference.py",
                    label="Try it",
                    icon=":material/arrow_forward:",
                    query_params={"adapter": _address(run, name, folder)},
                )
            if st.button(
                "Train on from it",
                key=f"go-on-{name}",
                help="A new run with this run's settings whose adapter begins as this one.",
            ):
                use_settings(run.config.with_settings({"model.adapter": str(folder)}))
                st.rerun(scope="app")
    _show_proof(status)


def _show_proof(status: Status) -> None:
    if status.reload_proof == "ok":
        st.caption(
            ":green[:material/verified:] Reload proof: loaded afresh onto a fresh base model, the saved adapter gave "
            "the same detections as the trained one."
        )
    elif status.reload_proof:
        st.caption(":orange[:material/warning:] Reload proof: failed, for the reason above.")
    else:
        st.caption("Reload proof: made when the run ends; the saved adapter is loaded afresh and compared.")


def _address(run: Run, name: str, folder: Path) -> str:
    """How the inference page calls the adapter: by run in the app's own folder, otherwise by path."""
    return f"{run.name}/{name}" if run.folder.parent == runs_folder() else str(folder)
