"""What `app.py` serves: page settings, the brand and the navigation; everything else lives in the pages."""

import streamlit as st

from sam3_lora import __version__
from sam3_lora.config import ASSETS


def main() -> None:
    """Sets up the app and runs the chosen page."""
    from sam3_lora.ui import resources, sidebar  # not with the module, which DataLoader workers execute again

    st.set_page_config(
        page_title="SAM 3 LoRA Studio",
        # A file of our own: a Material symbol would be fetched from the web, and there may be none.
        page_icon=ASSETS / "icon.svg",
        layout="wide",
    )
    st.logo(ASSETS / "logo.svg", size="large")
    page = st.navigation(
        [
            st.Page("pages/start.py", title="Start", icon=":material/home:", default=True),
            st.Page("pages/dataset.py", title="Dataset", icon=":material/photo_library:"),
            st.Page("pages/label.py", title="Label", icon=":material/label:"),
            st.Page("pages/configure.py", title="Configure", icon=":material/tune:"),
            st.Page("pages/train.py", title="Train", icon=":material/monitoring:"),
            st.Page("pages/inference.py", title="Inference", icon=":material/image_search:"),
            st.Page("pages/evaluate.py", title="Evaluate", icon=":material/straighten:"),
        ]
    )
    in_use = st.sidebar.container()
    st.sidebar.caption(f"Version {__version__}")
    if page.url_path:  # any but the start page, which starts the imports
        resources.wait_for_model_libraries()
    page.run()
    with in_use:
        sidebar.show()


# DataLoader workers started by spawn execute this file again: they must not draw the app.
if __name__ == "__main__":
    main()
