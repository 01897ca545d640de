"""The start page: what the app does, three steps with their states, what is going on and what to do next."""

import streamlit as st

from sam3_lora.ui import resources
from sam3_lora.ui.components.folder_picker import open_picker, pick_folder
from sam3_lora.ui.components.layout import guarded, page
from sam3_lora.ui.preferences import load_preferences, places
from sam3_lora.ui.start import actions, dashboard, pictures, recents, steps
from sam3_lora.ui.start.situation import look, next_step

_CHOSEN = "start-chosen"  # str: the folder that was chosen as a dataset
_DATASET_LINK = "path"  # in addresses of the dataset page from when it was the first page


def main() -> None:
    if path := st.session_state.pop(_CHOSEN, None):
        st.switch_page(actions.DATASET_PAGE, query_params={"path": path})
    if _DATASET_LINK in st.query_params:
        st.switch_page(actions.DATASET_PAGE, query_params=st.query_params.to_dict())
    _draw()
    resources.import_model_libraries()  # while the page is read


def _draw() -> None:
    with page("Teach SAM 3 your own objects", "From annotated images to a LoRA adapter, in three steps."):
        now = look()
        left, right = st.columns(2, gap="large")
        if now.is_first_start:
            with left:
                introduce()
                steps.show(now)
            with right, guarded():
                pictures.show()
            return
        with left:
            dashboard.show(now, next_step(now))
            with guarded():
                pictures.show(now.best if now.best and now.best.is_usable else None)
        with right:
            steps.show(now)
            recents.show(load_preferences().datasets, now.runs)


def introduce() -> None:
    """What SAM 3 is, what an adapter adds, and the way into the demo."""
    st.markdown(
        "**SAM 3** outlines every object in an image that matches a phrase, such as *pothole*.  \n"
        "A **LoRA adapter** is a small file of extra weights, learned from your annotated images, with which it also "
        "finds the objects that it misses today."
    )
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if st.button("Try the demo", key="try-demo", type="primary", icon=":material/play_arrow:"):
            actions.try_demo()
        icon = ":material/folder_open:"
        if st.button("Open a folder", key="open-folder", icon=icon, on_click=open_picker, args=("",)):
            pick_folder(places(), choose)


def choose(path: str) -> None:
    """A callback of the folder picker."""
    st.session_state[_CHOSEN] = path


main()
