"""One run in words and numbers: its state, latest metrics, last step, log, settings and adapters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean

import streamlit as st

from sam3_lora.config import BestBy
from sam3_lora.errors import Sam3LoraError
from sam3_lora.model.adapter_files.find_adapter import REFUSAL
from sam3_lora.monitor.diagnosis import Alert
from sam3_lora.monitor.healthy_ranges import WINDOW
from sam3_lora.monitor.history import GROUPS, History, last_step_table, replay_table
from sam3_lora.monitor.messages import describe_run
from sam3_lora.monitor.run_verdict import RunVerdict, Standing, judge
from sam3_lora.runs.auto_values import describe
from sam3_lora.runs.held_out import use_of
from sam3_lora.runs.launch import process_output
from sam3_lora.runs.metrics import BEST_BY
from sam3_lora.runs.run import Run, Status
from sam3_lora.text import amount, plural
from sam3_lora.ui import runs
from sam3_lora.ui.components import refusal
from sam3_lora.ui.components.layout import bullets, escape
from sam3_lora.ui.components.tables import show_table
from sam3_lora.ui.next_run import use_settings
from sam3_lora.ui.resources import has_dataset_folder
from sam3_lora.ui.runs import STATES, progress_sentence
from sam3_lora.ui.train.controls import ONE_SHOT_REQUESTS

_LOG_LINES = 200
_STANDINGS: dict[Standing, tuple[str, str]] = {  # icon, color
    "wrong": ("error", "red"),
    "starting": ("hourglass_top", "gray"),
    "not-measured": ("help", "gray"),
    "detects-nothing": ("trending_flat", "orange"),
    "not-usable": ("trending_up", "orange"),
    "usable": ("check_circle", "green"),
}
_NUMBERS = (  # what they mean, for people who have not trained a model before
    "**Step**: the model is shown a batch of images and corrected once.",
    "**Epoch**: every training image was shown once. After it the model is tested on the validation images, which it "
    "does not learn from.",
    "**Loss**: how far the answers are from the annotations. It should fall; its size means little.",
    "**F1**: what counts in the end, measured on the validation images. 1: every object is found, without a false "
    "alarm. 0: none is. From 0.5 an adapter is of use.",
    "**cgF1**: a stricter F1, the one that SAM 3 was published with: it also counts whether the model knows that an "
    "object is absent.",
    "**Best**: the adapter is saved whenever this number is better than before; later steps cannot spoil it.",
)
_MEANINGS: Mapping[BestBy, str] = {
    "f1": "F1 of masks on the validation images, at score 0.5 and IoU 0.5, as Evaluate measures it.",
    "cgf1": "SAM 3's own metric on the validation images, as Evaluate measures it: F1 of masks where a phrase has "
    "objects, times how well the model tells whether it has any.",
}


def show_status(run: Run, status: Status, alerts: Sequence[Alert] = ()) -> None:
    """Draws the state, the progress, pending requests, and why the run ended unless an alert says so.

    Args:
        run, status: the run that is shown.
        alerts: shown beside this.
    """
    words, color, icon = STATES[status.state]
    st.markdown(f":{color}-badge[:material/{icon}: {words}] {progress_sentence(status)}")
    if (status.total_steps and status.state != "finished") or (status.preparation is not None and status.active):
        st.progress(runs.share_done(status))
    requests = [request for request in ONE_SHOT_REQUESTS if request in run.requests.pending()]
    if status.active and requests:
        when = "in progress" if status.state == "paused" else "after the current step"
        st.caption(f":material/schedule: Requested: {', '.join(requests)} ({when}).")
    if status.launched and status.active:
        st.caption(":material/all_inclusive: It is trained by a process of its own, which goes on if the app closes.")
    if status.state == "crashed":
        st.warning(f"{escape(status.message)} {runs.resume_hint(run)}", icon=":material/power_off:")
        _show_output(run)
    elif status.state == "failed":
        if not any(alert.kind == "not-finite" and alert.step > status.step for alert in alerts):
            st.error(escape(status.message) or "See the log below.", icon=":material/error:")
    elif status.message:
        st.caption(escape(status.message))
    if status.reload_proof not in ("", "ok"):
        st.warning(f"**Reload check failed.** {escape(status.reload_proof)}", icon=":material/warning:")
    with suppress(Sam3LoraError):
        if (held_out := run.held_out()) is not None:
            st.caption(f":material/call_split: {escape(use_of(held_out).sentence)}")
    if unreadable := run.unreadable():
        reasons = "; ".join(f"{name}: {reason}" for name, reason in unreadable.items())
        st.caption(f":material/lock: Not shown, because it cannot be read: {escape(reasons)}.")
    if status.skipped_steps:
        steps = plural(status.skipped_steps, "step")
        st.caption(f":material/warning: {steps} did not fit into memory and changed nothing; the log names the images.")
    if status.left_out_images:
        images = plural(status.left_out_images, "image")
        st.caption(f":material/warning: {images} could not be loaded and are left out; the log says which and why.")


def _show_output(run: Run) -> None:
    """What the process of a run printed last: a crash leaves nothing in the log."""
    if output := process_output(run):
        with st.expander("Last output of its process", key="process-output"):
            st.code(output, language=None, height=240)


def show_notes(notes: Sequence[str]) -> None:
    """Draws what the run has noted, each as one line."""
    for note in notes:
        st.caption(f":material/info: {escape(note)}")


def show_numbers(status: Status, history: History) -> None:
    """Draws the latest numbers in a row.

    Args:
        status: of the run.
        history: its metrics, at least one step.
    """
    latest = {name: values[-1] for name, values in history.measures.items()}
    metrics = (
        ("Total loss", amount(fmean(history.totals[-WINDOW:]), 4), f"Mean of the last {WINDOW} steps."),
        *(_validation_number(by, history) for by in _MEANINGS),
        _best_number(status),
    )
    for column, (label, value, meaning) in zip(st.columns(len(metrics), gap="small"), metrics, strict=True):
        column.metric(label, value, help=meaning)
    memory = [] if status.memory_bytes is None else [f"{status.memory_bytes / 1e9:.2f} GB of memory"]
    numbers = [
        f"{latest['images_per_second']:.3g} images per second",
        f"gradient norm {amount(latest['grad_norm'])} before clipping",
        f"learning rate {latest['lr']:.3g}",
        *memory,
    ]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(" · ".join(numbers), width="stretch")
        with st.popover("What the numbers mean", type="tertiary", icon=":material/help:"):
            st.markdown(bullets(_NUMBERS))


def _best_number(status: Status) -> tuple[str, str, str | None]:
    """Label, value and meaning of the number that the best adapter is the best by."""
    name = BEST_BY[status.best_by]
    extreme = "lowest" if status.best_by == "loss" else "highest"
    if status.best is None or status.best_step is None:
        return f"Best {name}", "none yet", f"The {extreme} {name} on the validation images."
    meaning = f"The {extreme} {name} on the validation images so far, after step {status.best_step:,}, saved as "
    value = amount(status.best, 4) if status.best_by == "loss" else f"{status.best:.2f}"
    return f"Best {name}", value, f"{meaning}adapters/best."


def _validation_number(by: BestBy, history: History) -> tuple[str, str, str]:
    """Label, latest value and meaning of F1 or cgF1."""
    if not history.validation:
        return BEST_BY[by], "none yet", _MEANINGS[by]
    last = history.validation[-1]
    value = last.f1 if by == "f1" else last.cgf1
    return BEST_BY[by], "not measured" if math.isnan(value) else f"{value:.2f}", _MEANINGS[by]


def show_last_step(history: History) -> None:
    """Draws each weighted term of the latest step and its share of the total."""
    row = history.last
    if row is None:
        st.caption("No steps yet.")
        return
    st.caption(f"Step {row['step']:,}: weighted loss terms by group, and their share of the total.")
    number = st.column_config.NumberColumn
    show_table(
        last_step_table(row["terms"], row.get("raw", {})),
        "Terms of the last step",
        {
            "term": st.column_config.TextColumn("Term"),
            "main": number("Main layer", format="%.3f"),
            "auxiliary": number("Auxiliary layers", format="%.3f"),
            "one-to-many": number("One-to-many", format="%.3f"),
            "weighted": number("Weighted", format="%.3f"),
            "share": st.column_config.ProgressColumn("Share of total", format="percent", min_value=0, max_value=1),
            "raw": number("Raw, main layer", format="%.4f"),
        },
        column_order=["term", *GROUPS, "weighted", "share", "raw"],
        placeholder="",
    )
    if replayed := replay_table(row):
        st.caption("Replay: how far the adapter is from the base model on other phrases. It is not part of the total.")
        columns = {
            "term": st.column_config.TextColumn("Term"),
            "weighted": number("Weighted", format="%.3f"),
            "raw": number("Raw", format="%.4f"),
        }
        show_table(replayed, "Terms of replay in the last step", columns, placeholder="")


def show_log(run: Run) -> None:
    """Draws the end of the log, scrolled down to its latest line."""
    text = run.log_tail(_LOG_LINES)
    if not text:
        st.caption("The log is empty.")
        return
    fits = text.count("\n") < 12
    with st.container(height="content" if fits else 320, autoscroll=not fits, border=False):
        st.code(text, language=None)


def show_settings(run: Run) -> None:
    """Draws the run's settings and what was chosen for those left to auto; and the button for the next run."""
    if chosen := run.auto_values():
        st.markdown(bullets([escape(describe(value)) for value in chosen]))
    st.code(run.config.to_yaml(), language="yaml", height=320)
    if st.button("Use for the next run", icon=":material/tune:", key="use-settings"):
        use_settings(run.asked_config)
        st.rerun(scope="app")


def show_adapters(run: Run, status: Status) -> None:
    """Draws the adapters saved so far with their actions, and the result of the reload check.

    Args:
        run, status: the run that is shown.
    """
    adapters = run.adapters()
    if not adapters:
        st.caption("No adapter yet: the first is saved with the first checkpoint or evaluation.")
        return
    for name, folder in adapters.items():
        meaning = "saved last"
        if name == "best":
            after = "" if status.best_step is None else f", after step {status.best_step:,}"
            meaning = f"{status.best_sentence or BEST_BY[status.best_by]}{after}"
        elif name == REFUSAL:
            meaning = "its presence head trained anew"
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{name.capitalize()}**, {meaning}: {escape(str(folder))}", width="stretch")
            if not status.active:
                _link_to_inference(run, name)
            if name != REFUSAL:
                _offer_to_continue(run, folder, f"continue-training-{name}")
    _show_reload_check(status)
    refusal.show_repair(next(iter(adapters.values())))


def show_verdict(run: Run, status: Status, followed: runs.Followed, alerts: Sequence[Alert]) -> None:
    """Draws how far the run has come, as one line, and what to do with a finished one; nothing before its first step.

    Args:
        run, status: the run that is shown.
        followed: its metrics.
        alerts: of the run.
    """
    if followed.config is None or not followed.history.steps:
        return
    terms, history = followed.rolling.verdicts(followed.config), followed.history
    verdict = judge(followed.config, history.steps[-1], terms, history.validation, alerts)
    if verdict is not None:
        icon, color = _STANDINGS[verdict.standing]
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f":{color}[:material/{icon}:] **{escape(describe_run(verdict))}**", width="content")
            _show_next_step(run, status, verdict)


def _show_next_step(run: Run, status: Status, verdict: RunVerdict) -> None:
    """Draws what to do with a finished run: try its adapter, or train on where it is not usable yet."""
    adapters = run.adapters()
    if status.state != "finished" or not adapters:
        return
    name = "best" if "best" in adapters else next(iter(adapters))
    with st.container(horizontal=True, gap="small"):
        if verdict.standing in ("detects-nothing", "not-usable"):
            _offer_to_continue(run, adapters[name], "next-continue-training")
        _link_to_inference(run, name)
        st.page_link(
            "pages/evaluate.py",
            label="Evaluate",
            icon=":material/arrow_forward:",
            query_params={"adapter": runs.adapter_address(run, name)},
        )


def _link_to_inference(run: Run, name: str) -> None:
    st.page_link(
        "pages/inference.py",
        label="Try in Inference",
        icon=":material/arrow_forward:",
        query_params=_to_try(run, name),
    )


def _offer_to_continue(run: Run, folder: Path, key: str) -> None:
    if st.button(
        "Continue training", key=key, help="Prepares a new run with this run's settings that starts from this adapter."
    ):
        use_settings(run.asked_config.with_settings({"model.adapter": str(folder)}))
        st.rerun(scope="app")


def _show_reload_check(status: Status) -> None:
    if status.reload_proof == "ok":
        st.caption(
            ":green[:material/verified:] Reload check passed: loaded onto a fresh base model, the saved adapter gives "
            "the same detections as the trained model."
        )
    elif status.reload_proof:
        st.caption(":orange[:material/warning:] Reload check failed; the reason is above.")
    else:
        st.caption("Reload check: at the end of the run, the saved adapter is loaded again and compared.")


def _to_try(run: Run, kind: str) -> dict[str, str]:
    """The address at which the inference page prompts an image of the run's dataset with its adapter at once."""
    address = {"adapter": runs.adapter_address(run, kind), "ask": "1"}
    with suppress(Sam3LoraError):
        if has_dataset_folder(dataset := run.config.data.path):
            address["dataset"] = dataset
    return address
