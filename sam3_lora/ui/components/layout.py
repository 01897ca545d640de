"""What every page has in common: its head, calm errors and empty states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

from sam3_lora.errors import Sam3LoraError
from sam3_lora.ui import state
from sam3_lora.ui.resources import log_unexpected

# Only what the theme in .streamlit/config.toml cannot say. Selectors are Streamlit's test ids and
# the st-key-* classes made from our own keys.
_CSS = """
<style>
[data-testid="stMainBlockContainer"] { max-width: 1280px; padding-inline: 3rem; }
/* A thumbnail's button covers its whole card, so that a click on the picture opens it. */
[class*="st-key-thumb-"] { position: relative; }
[class*="st-key-thumb-"] button::after { content: ""; position: absolute; inset: 0; }
[class*="st-key-thumb-"] [class*="st-key-open-"], [class*="st-key-open-"] button { position: static; }
[class*="st-key-thumb-"] [data-testid="stElementToolbar"] { display: none; }
[class*="st-key-thumb-"] img {
    aspect-ratio: 1; object-fit: contain; width: 100%;
    background: rgba(128, 144, 144, 0.12); border-radius: 0.5rem;
}
[class*="st-key-found-"] img { max-height: 320px; object-fit: contain; }
/* As high as the other inputs and buttons, so that rows of both share their edges. */
button[data-variant="segmented_control"] { min-height: 2.5rem; }
/* The primary colour carries white text on buttons; as text on the dark background it is too dark itself. */
button[data-variant="segmented_control"][aria-checked="true"], [data-testid="stSliderThumbValue"] {
    color: inherit !important;
}
</style>
"""


@contextmanager
def page(title: str, intro: str) -> Iterator[None]:
    """The frame of a page: its title, one sentence of what it is for, and :func:`guarded` around its body."""
    _enter_through_app()
    st.html(_CSS)
    st.title(title, anchor=False)
    st.caption(intro)
    with guarded():
        yield


def _enter_through_app() -> None:
    """Sends a page that was opened by its address right after the start through app.py, as every other time.

    Until app.py has run once, Streamlit takes the folder pages/ for a list of pages of its own making
    and runs the page without navigation and settings. It offers no public switch for that.
    """
    # Once per tab at most: a rerun would swallow the click that caused this run.
    if PagesManager.uses_pages_directory and not st.session_state.get(state.ENTERED):
        st.session_state[state.ENTERED] = True
        PagesManager.uses_pages_directory = False
        st.rerun()


@contextmanager
def guarded() -> Iterator[None]:
    """Turns an error in the body into one calm box; never shows a traceback.

    A page has this around it already. A fragment that reruns on its own needs it inside, because
    its reruns do not pass through the page.
    """
    try:
        yield
    except Sam3LoraError as error:
        show_error(error)
    except Exception:  # the last resort: the person at the screen gets a sentence, we get a log
        where = log_unexpected("A page failed")
        st.error(
            f"Something went wrong that this app did not foresee. The details are in {escape(where)}.\n\n"
            "Reload the page to go on.",
            icon=":material/error:",
        )


def show_error(error: Sam3LoraError) -> None:
    """One box: what was expected and came, then how to fix it."""
    st.error(f"{escape(error.message)}.\n\n{escape(error.fix)}.", icon=":material/error:")


def empty_state(icon: str, text: str, next_step: str) -> None:
    """Fills the place of content that is not there yet.

    Args:
        icon: a Material symbol's name, for example ``"image"``.
        text: what is missing, as a short sentence.
        next_step: what to do next, as an instruction (Markdown).
    """
    with st.container(border=True, horizontal_alignment="center", gap="xsmall"):
        st.space("small")
        st.markdown(f"## :gray[:material/{icon}:]", text_alignment="center")
        st.markdown(f"**{text}**", text_alignment="center")
        st.caption(next_step, text_alignment="center")
        st.space("small")


def download(label: str, content: Callable[[], str | bytes], name: str, mime: str, key: str, meaning: str) -> None:
    """A button whose file is made when it is pressed, and that leaves the page as it is."""
    st.download_button(
        label,
        content,
        file_name=name,
        mime=mime,
        icon=":material/download:",
        on_click="ignore",
        key=key,
        help=meaning,
    )


def bullets(lines: Sequence[str]) -> str:
    """The lines as a Markdown list; a single one stays as it is."""
    return lines[0] if len(lines) == 1 else "\n".join(f"- {line}" for line in lines)


def escape(text: str) -> str:
    """Text from outside (paths, names) so that Markdown shows it as it is."""
    return "".join("\\" + character if character in r"\`*_{}[]<>#$~:|" else character for character in text)
