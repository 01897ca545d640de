"""The configure page: one run's settings as a form, what they cost, YAML in and out."""

from __future__ import annotations

import streamlit as st

from sam3_lora.config import RunConfig
from sam3_lora.text import plural
from sam3_lora.ui.components.layout import action_button, page
from sam3_lora.ui.configure.adapter_summary import show_adapter
from sam3_lora.ui.configure.memory_view import show_memory
from sam3_lora.ui.configure.settings_form import show_form
from sam3_lora.ui.configure.yaml_file import show_upload, show_yaml
from sam3_lora.ui.next_run import next_run
from sam3_lora.ui.recipe import follow_recipe

_STICKY = """<style>
[data-testid="stColumn"]:has(.st-key-config-summary) { position: sticky; top: 4.5rem; align-self: flex-start; }
</style>"""


def main() -> None:
    with page("Configure", "Choose what to train and how. The defaults follow the base model and the dataset."):
        config, problems = next_run()
        if config is not None and follow_recipe(config):
            config, problems = next_run()
        form, summary = st.columns([3, 2], gap="medium")
        with form:
            show_form(problems)
        with summary, st.container(key="config-summary"):
            st.html(_STICKY)
            show_summary(config, problems)
            if config is not None:
                show_memory(config)
            show_yaml(config)
            show_upload()


def show_summary(config: RunConfig | None, problems: dict[str, str]) -> None:
    """What the adapter costs, or how many settings are wrong; and the way to the train page."""
    with st.container(border=True):
        if config is None:
            st.markdown(f":red[:material/error:] Correct {plural(len(problems), 'setting')} to start a run.")
        else:
            show_adapter(config)
        reason = None if config else "Correct the marked settings first."
        look = {"type": "primary", "icon_position": "right", "width": "stretch"}
        if action_button("Go to training", "arrow_forward", "go-to-training", reason, **look):
            st.switch_page("pages/train.py")


main()
