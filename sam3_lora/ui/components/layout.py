"""Elements of every page: title, error boxes, empty states, downloads."""

from __future__ import annotations

import mimetypes
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import streamlit as st

from sam3_lora import markdown
from sam3_lora.errors import ConfigError, Sam3LoraError
from sam3_lora.ui.access import AccessGuard
from sam3_lora.ui.components.javascript import component
from sam3_lora.ui.resources import log_unexpected

_MAX_FILE_NAME = 120  # characters
_KEYS = component("arrow_keys")
# What Streamlit replaces after Markdown has been parsed, where a backslash does not help: names of emoji and icons,
# arrows and dashes. A word joiner, which is invisible and has no width, keeps it from that.
_REPLACED = re.compile(r":(?=material/|[\w+-]+:)|(?<!\S)(?:<->|->|<-|--|>=|<=|~=)(?!\S)")

# Only what the theme in .streamlit/config.toml cannot express. Selectors are Streamlit's test ids and
# the st-key-* classes made from our own keys.
_CSS = """
<style>
[data-testid="stMainBlockContainer"] { max-width: 1640px; padding-inline: 3rem; }
@media (max-width: 1100px) { [data-testid="stMainBlockContainer"] { padding-inline: 1.5rem; } }
[data-testid="stMetric"] p { white-space: normal; }
/* A thumbnail's button covers its whole card, so that a click on the image opens it. */
[class*="st-key-thumb-"] { position: relative; }
[class*="st-key-thumb-"] button::after { content: ""; position: absolute; inset: 0; }
[class*="st-key-thumb-"] [class*="st-key-open-"], [class*="st-key-open-"] button { position: static; }
[class*="st-key-thumb-"] [data-testid="stElementToolbar"] { display: none; }
[class*="st-key-thumb-"] img {
    aspect-ratio: 1; object-fit: contain; width: 100%;
    background: rgba(128, 144, 144, 0.12); border-radius: 0.5rem;
}
/* Examples are small: their pictures say enough, the buttons' names are for screen readers and the keyboard. */
[class*="st-key-open-example-"] { height: 0; overflow: visible; }
[class*="st-key-open-example-"] p { position: absolute; clip-path: inset(50%); }
[class*="st-key-thumb-example-"]:has(button:hover) img { outline: 2px solid var(--st-primary-color, #0f766e); }
[class*="st-key-found-"] img { max-height: 320px; object-fit: contain; }
/* A line of the sidebar, as its links are. */
.st-key-sidebar-run button { min-height: 0; padding-block: 0.1rem; }
/* As high as the other inputs and buttons, so that rows of both share their edges. */
button[data-variant="segmented_control"] { min-height: 2.5rem; }
/* The primary color carries white text on buttons; as text on the dark background it is too dark itself. */
button[data-variant="segmented_control"][aria-checked="true"], [data-testid="stSliderThumbValue"],
button[kind="tertiary"]:is(:hover, :focus, :active) {
    color: inherit !important;
}
button[kind="tertiary"]:hover p { text-decoration: underline; }
/* What the keyboard is on: Streamlit's ring is half transparent, its links have none, its toolbars are unseen. */
:is(a, button, summary, [role="tab"], [data-testid="stMultiSelectTagsContainer"] span):focus-visible,
[data-testid="stCheckbox"]:has(input:focus-visible) label > div:nth-of-type(1),
[data-testid="stSlider"] div:has(> div > input:focus-visible),
:is([data-testid$="RootElement"], [data-testid="stNumberInputContainer"]):has(:is(input, textarea):focus-visible),
:is([data-testid="stSelectbox"], [data-testid="stMultiSelect"]) [role="group"]:has(input:focus-visible),
[class*="st-key-thumb-"] button:focus-visible::after {
    outline: 2px solid #0d9488 !important;
    outline-offset: 1px;
}
:is(summary, [role="tab"], [role="radio"], [data-testid^="stPagination"]):focus-visible { outline-offset: -2px; }
[data-testid="stElementToolbar"]:has(:focus-visible) { opacity: 1 !important; z-index: 2; }
[class*="st-key-thumb-"] button:focus-visible { outline: none !important; box-shadow: none !important; }
</style>
"""


@contextmanager
def page(title: str, intro: str) -> Iterator[None]:
    """The frame of a page, with :func:`guarded` around its body.

    Args:
        title: heading.
        intro: one sentence on what the page is for.
    """
    _only_behind_the_guard()
    st.html(_CSS)
    st.title(title, anchor=False)
    st.caption(intro)
    with guarded():
        yield


def _only_behind_the_guard() -> None:
    """Ends the page where nothing has checked who asks for it: another file was started, or Streamlit has changed."""
    if not AccessGuard.in_use:
        show_error(
            ConfigError(
                "Expected this page to be served by app.py, which checks who may talk to it, but it is not",
                "Start the app with 'streamlit run app.py', with the version of Streamlit in requirements.txt",
            )
        )
        st.stop()


@contextmanager
def guarded() -> Iterator[None]:
    """Shows an error in the body as one box, never as a traceback.

    :func:`page` includes it. A fragment needs its own, because its reruns do not pass through the page.
    """
    try:
        yield
    except Sam3LoraError as error:
        show_error(error)
    except Exception:  # the last resort: the page gets a sentence, the log the traceback
        where = log_unexpected("A page failed")
        st.error(
            f"An unexpected error occurred. The details are in {escape(where)}.\n\nReload the page to continue.",
            icon=":material/error:",
        )


def fragment(draw: Callable[..., None], *args: object, run_every: float | None = None) -> None:
    """Draws a part of a page that is drawn anew without the rest, :func:`guarded`.

    Args:
        draw: draws it.
        args: of draw.
        run_every: seconds between two drawings; None: only when something in it is used.
    """

    def guarded_part() -> None:
        with guarded():
            draw(*args)

    st.fragment(guarded_part, run_every=run_every)()


def show_error(error: Sam3LoraError) -> None:
    """One box: the message, then the fix."""
    st.error(f"{escape(error.message)}.\n\n{escape(error.fix)}.", icon=":material/error:")


@contextmanager
def kept_error(key: str) -> Iterator[None]:
    """For callbacks, which cannot draw: keeps an error in the body until the next time, for :func:`show_kept_error`.

    Args:
        key: of the error in the session.
    """
    st.session_state[key] = None
    try:
        yield
    except Sam3LoraError as error:
        st.session_state[key] = error


def show_kept_error(key: str) -> None:
    """Shows the error that the last callback with this key ended with, if it did."""
    if error := st.session_state.get(key):
        show_error(error)


def empty_state(icon: str, text: str, next_step: str) -> None:
    """A placeholder for content that does not exist yet.

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


def download(label: str, content: Callable[[], str | bytes], name: str, key: str, meaning: str, **others: Any) -> None:
    """A download button that makes its file when pressed and does not rerun the page.

    Args:
        label, key: of the button.
        content: makes the file.
        name: of the file, of which signs that some system does not allow become "-"; its type follows from its ending.
        meaning: tooltip.
        others: as Streamlit's download_button takes them.
    """
    st.download_button(
        label,
        content,
        file_name=re.sub(r"[^\w. -]+", "-", name)[-_MAX_FILE_NAME:],
        mime=mimetypes.guess_type(name)[0],
        icon=":material/download:",
        on_click="ignore",
        key=key,
        help=meaning,
        **others,
    )


def download_report(stem: str, to_json: Callable[[], str], to_markdown: Callable[[], str]) -> None:
    """The download buttons of a report.

    Args:
        stem: of the files' names.
        to_json, to_markdown: make the files.
    """
    download("JSON", to_json, f"{stem}.json", "download-json", "The report as a file")
    download("Markdown", to_markdown, f"{stem}.md", "download-markdown", "The report as a file")


def action_button(
    label: str, icon: str, key: str, reason: str | None = None, meaning: str | None = None, **others: Any
) -> bool:
    """A button whose tooltip says why it is disabled, if it is; True when it was pressed.

    Args:
        label, key: of the button.
        icon: a Material symbol's name.
        reason: why it is disabled; None enables it.
        meaning: what it does.
        others: as Streamlit's button takes them.
    """
    disabled, text = reason is not None, reason or meaning
    return st.button(label, key, icon=f":material/{icon}:", disabled=disabled, help=text, **others)


def choose_one(label: str, options: Sequence[str], key: str, **others: Any) -> str:
    """A segmented control of which one option is always chosen, at first the first.

    Args:
        label, options, key, others: as Streamlit's segmented_control takes them.
    """
    return st.segmented_control(label, options, default=options[0], required=True, key=key, **others)


def step_buttons(place: int | None, count: int, step: Callable[[int], None], prefix: str = "") -> None:
    """The buttons "Previous" and "Next".

    Args:
        place: of what is shown, from 0; None disables both.
        count: how many there are.
        step: called with -1 or 1.
        prefix: of the buttons' keys.
    """
    for text, icon, by in (("Previous", "chevron_left", -1), ("Next", "chevron_right", 1)):
        disabled = place is None or not 0 <= place + by < count
        st.button(
            text, f"{prefix}{text.lower()}", icon=f":material/{icon}:", disabled=disabled, on_click=step, args=(by,)
        )


def arrow_keys(key: str, step: Callable[[int], None]) -> None:
    """Calls back for the arrow keys.

    Args:
        key: of the component.
        step: called with the presses of right minus those of left since the last call.
    """
    done = f"{key}-done"  # the browser's count at the last call

    def follow() -> None:
        count = st.session_state[key]["count"]
        by = int(count) - st.session_state.get(done, 0)
        st.session_state[done] = int(count)
        step(by)

    session = st.session_state.setdefault(f"{key}-session", secrets.token_hex(8))
    _KEYS(
        key=key,
        data={"count": st.session_state.get(done, 0), "session": session},
        default={"count": st.session_state.get(done, 0)},
        on_count_change=follow,
        height=0,
    )


@contextmanager
def one_page(count: int, per_page: int, key: str) -> Iterator[slice]:
    """Gives the items of the current page to draw in the body; the choice of a page is drawn below it.

    Args:
        count: of the items.
        per_page: items on a page.
        key: of the choice; its value is the page, from 1.
    """
    pages = -(-count // per_page)
    if st.session_state.get(key, 1) > pages:
        st.session_state[key] = 1
    start = (st.session_state.get(key, 1) - 1) * per_page
    yield slice(start, start + per_page)
    if pages > 1:
        with st.container(horizontal_alignment="center"):
            st.pagination(pages, key=key, persist_state="session")


def bullets(lines: Sequence[str]) -> str:
    """The lines as a Markdown list; a single one stays as it is."""
    return lines[0] if len(lines) == 1 else "\n".join(f"- {line}" for line in lines)


def escape(text: str) -> str:
    """Text from outside (paths, names, messages) as one line of Markdown that Streamlit shows as it is."""
    return markdown.escape(_REPLACED.sub(lambda found: f"{found[0][0]}\u2060{found[0][1:]}", text))
