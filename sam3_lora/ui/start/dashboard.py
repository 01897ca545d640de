"""What runs, what is best and what to do next, as cards with a button each."""

from __future__ import annotations

import streamlit as st

from sam3_lora.text import plural
from sam3_lora.ui import resources, runs
from sam3_lora.ui.components.layout import escape, fragment
from sam3_lora.ui.start import actions
from sam3_lora.ui.start.situation import Kind, NextStep, RunFacts, Situation

# kind -> the label and the icon of its button; a run in progress has a card of its own
_BUTTONS: dict[Kind, tuple[str, str]] = {
    "open-dataset": ("Try the demo", "play_arrow"),
    "fix-dataset": ("Open the findings", "list"),
    "train": ("Go to training", "arrow_forward"),
    "resume": ("Open the run", "resume"),
    "read-log": ("Open the run", "error"),
    "improve": ("Change the settings", "tune"),
    "evaluate": ("Evaluate it", "straighten"),
    "try-adapter": ("Try the adapter", "image_search"),
}


def show(now: Situation, step: NextStep) -> None:
    """Draws the cards."""
    if now.active:
        fragment(_show_active, now.active, run_every=runs.POLL_SECONDS)
    else:
        _show_next(now, step)
    if now.best and now.best.adapter and now.best.is_usable:
        _show_best(now.best, now.best.adapter)
    elif step.kind != "open-dataset":
        _offer_demo()


def _offer_demo() -> None:
    """Draws the way back to the adapter that ships with the app, for as long as there is no better one."""
    with st.container(border=True, key="demo-again", horizontal=True, vertical_alignment="center"):
        st.markdown("**The demo's adapter** shows what a trained one finds.", width="stretch")
        if st.button("Try the demo", key="try-demo", icon=":material/play_arrow:"):
            actions.try_demo()


def _early(facts: RunFacts | None) -> str:
    """ "after step 40 of 400, "; empty where it is not known."""
    if facts is None or not facts.status.total_steps:
        return ""
    return f"after step {facts.status.step:,} of {facts.status.total_steps:,}, "


def _show_next(now: Situation, step: NextStep) -> None:
    label, icon = _BUTTONS[step.kind]
    with st.container(border=True, key="next-step", gap="small"):
        st.caption("Next step")
        st.markdown(sentence(now, step))
        if st.button(label, key="next-step-button", type="primary", icon=f":material/{icon}:"):
            _go(now, step)


def sentence(now: Situation, step: NextStep) -> str:
    """What to do next and why, as Markdown."""
    dataset = escape(resources.dataset_title(now.path))
    run = f"**{escape(runs.run_title(step.run.run.name))}**" if step.run else ""
    f1 = "" if step.run is None or step.run.f1 is None else f"F1 {step.run.f1:.2f}"
    sentences: dict[Kind, str] = {
        "open-dataset": "Open a dataset, or try the demo: it needs no GPU.",
        "fix-dataset": f"**{dataset}** has {plural(now.dataset.errors if now.dataset else 0, 'error')} to look at "
        "before you train on it.",
        "train": f"Train an adapter on **{dataset}**. The settings are filled in.",
        "resume": f"{run} ended {_early(step.run)}before its adapter was of use. Resume it where it stopped.",
        "read-log": f"{run} failed. Its page says why.",
        "improve": f"{run} finds too little yet ({f1}). Train for more epochs, adapt more layers, or add images.",
        "evaluate": f"Measure {run} against the base model{f' ({f1} while training)' if f1 else ''}.",
        "try-adapter": f"Try {run} on images it has not seen.",
    }
    return sentences[step.kind]


def _go(now: Situation, step: NextStep) -> None:
    """Opens what the button of the next step leads to."""
    run = step.run
    if step.kind == "open-dataset":
        actions.try_demo()
    if step.kind == "fix-dataset":
        st.switch_page(actions.DATASET_PAGE, query_params={"path": now.path, "view": "Findings"})
    if step.kind == "improve":
        st.switch_page(actions.CONFIGURE_PAGE)
    if run is None:
        st.switch_page(actions.TRAIN_PAGE)
    name = runs.adapter_address(run.run, run.adapter or "best")
    if step.kind == "evaluate":
        st.switch_page(actions.EVALUATE_PAGE, query_params={"adapter": name})
    if step.kind == "try-adapter":
        actions.try_adapter(name)
    actions.open_run(run.run)


def _show_active(facts: RunFacts) -> None:
    status = facts.run.status()
    words, color, icon = runs.STATES[status.state]
    with st.container(border=True, key="active-run", gap="small"):
        st.caption("Run in progress" if status.active else "Last run")
        st.markdown(f"**{escape(runs.run_title(facts.run.name))}** :{color}-badge[:material/{icon}: {words}]")
        st.progress(runs.share_done(status), runs.progress_sentence(status) or None)
        if st.button("Watch it", key="watch-run", type="primary", icon=":material/monitoring:"):
            actions.open_run(facts.run)


def _show_best(facts: RunFacts, adapter: str) -> None:
    with st.container(border=True, key="best-run", horizontal=True, vertical_alignment="center"):
        st.metric("Best F1", f"{facts.f1:.2f}", width="content", help="Of masks on the validation images, at IoU 0.5.")
        st.markdown(f"**{escape(runs.run_title(facts.run.name))}**", width="stretch")
        if st.button("Try it", key="try-best", icon=":material/image_search:"):
            actions.try_adapter(runs.adapter_address(facts.run, adapter))
