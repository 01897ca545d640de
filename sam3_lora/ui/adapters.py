"""The choice of an adapter: of the runs, uploaded, by its folder's path, or none."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from sam3_lora.config import ASSETS, DEMO
from sam3_lora.data.index.cache import cache_folder
from sam3_lora.data.phrase_list import split_phrases
from sam3_lora.errors import Sam3LoraError
from sam3_lora.files import user_path
from sam3_lora.model.adapter_files import taught_phrases as taught_file
from sam3_lora.model.adapter_files.find_adapter import SETTINGS, find_adapter
from sam3_lora.model.adapter_files.settings import base_model_of
from sam3_lora.text import first_names, short
from sam3_lora.ui import state
from sam3_lora.ui.components.layout import escape, kept_error, show_kept_error
from sam3_lora.ui.next_run import phrases_of_dataset
from sam3_lora.ui.resources import current_dataset
from sam3_lora.ui.runs import adapter_title, all_runs, best_f1, may_find_nothing, run_label

if TYPE_CHECKING:
    from sam3_lora.predict.routing import Routing

NONE = "No adapter: the base model alone"
DEMO_ADAPTER = "The demo's adapter"  # name of the one that ships with the app
DEMO_FOLDER = ASSETS / "demo" / "adapter"
_UPLOADED = "uploaded/"  # prefix of the names of uploaded adapters
_REJECTED = "adapter-refused"  # Sam3LoraError: why the last uploaded archive was rejected


@dataclass(frozen=True)
class ModelChoice:
    """A base model, alone or with an adapter that was trained for it."""

    base: str  # name or path
    adapter: str | None = None  # its name for people
    folder: Path | None = None  # of the adapter
    processor: str = ""  # of the base; with an adapter "" for the one it was trained with
    image_size: int | None = None  # of the base; with an adapter None for the one it was trained with

    @property
    def loading(self) -> dict[str, Any]:
        """How the base is loaded: arguments of :func:`sam3_lora.ui.resources.get_predictor`."""
        return {"name_or_path": self.base, "processor": self.processor, "image_size": self.image_size}


def base_alone() -> ModelChoice:
    """The base model that this tab works with, without an adapter."""
    model = state.base_model()
    return ModelChoice(model.base, processor=model.processor, image_size=model.image_size)


def known_adapters() -> dict[str, Path]:
    """Name, such as "20260131-101500-potholes/best", -> folder.

    Returns:
        The newest run first, best before last; then uploads; then the one that ships with the app.
    """
    of_runs = {f"{run.name}/{kind}": folder for run in all_runs() for kind, folder in run.adapters().items()}
    root = _uploads()
    uploaded = [path for path in root.iterdir() if not path.name.startswith(".")] if root.is_dir() else []
    uploaded.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    shipped = {DEMO_ADAPTER: DEMO_FOLDER} if has_demo_adapter() else {}
    return of_runs | {_UPLOADED + path.name: path for path in uploaded} | shipped


def has_demo_adapter() -> bool:
    """Whether an adapter for the demo ships with the app."""
    return (DEMO_FOLDER / SETTINGS).is_file()


def short_name(name: str) -> str:
    """An adapter's name where there is little room: "potholes (best)" for that of a run."""
    run, _, kind = name.partition("/")
    if name == NONE:
        return "Base model alone"
    return f"{run_label(run)} ({kind})" if kind in ("best", "last") else short(Path(name).name or name)


def _uploads() -> Path:
    return cache_folder() / "adapters"


def choose(key: str) -> ModelChoice:
    """Draws the choice.

    Args:
        key: of the widget, and name of its value in the page's address.

    Raises:
        ModelError: the typed folder is no adapter's.
    """
    known = known_adapters()
    known_address, asked = f"{key}-address", st.query_params.get(key)
    if asked and asked != st.session_state.get(known_address):  # by a link
        st.session_state[key] = asked
    st.session_state[key] = typed = st.session_state.get(key) or in_use()
    name = st.selectbox(
        "Adapter",
        list(dict.fromkeys([*known, NONE, typed])),
        key=key,
        format_func=adapter_title,
        accept_new_options=True,
        help="The adapters of your runs, newest first. You can also type the folder of another adapter.",
    )
    # Not bound to the widget: the address would have the title, and could not be set by buttons of this page.
    st.query_params[key] = st.session_state[known_address] = name
    st.session_state[state.ADAPTER] = (name, st.session_state.get(state.CURRENT_RUN, ""))
    if name == NONE:
        return base_alone()
    return open_adapter(name, known.get(name) or _typed_folder(name))


def _typed_folder(name: str) -> Path:
    """The folder that a typed text or a link means: a path, or a run with or without "best" or "last"."""
    run_name, _, kind = name.partition("/")
    run = next((run for run in all_runs() if run.name == run_name), None)
    return Path(name) if run is None else run.folder / "adapters" / kind


def in_use() -> str:
    """The name of the adapter that this tab works with.

    It is the one chosen last, unless another run was opened on the train page since. Then, and before any was chosen,
    it is one of the run opened there; otherwise the newest of another run, or uploaded; otherwise the demo's, for the
    demo. One of a run in progress or of little F1, which may not find anything, gives way to one for the same dataset.
    """
    current = st.session_state.get(state.CURRENT_RUN, "")
    chosen, run_then = st.session_state.get(state.ADAPTER, ("", ""))
    if chosen and run_then == current:
        return chosen
    names = [name for name in known_adapters() if name != DEMO_ADAPTER or current_dataset() == DEMO]
    of_current = [name for name in names if current and name.startswith(f"{Path(current).name}/")]
    statuses = {run: run.status() for run in all_runs()}
    weak = {run.name for run, status in statuses.items() if may_find_nothing(status, best_f1(run, status))}
    usable = [name for name in (*of_current, *names) if name.partition("/")[0] not in weak]
    if of_current and of_current[0] not in usable:  # it gives way only to one for the same dataset
        return next((name for name in usable if _is_for(name, current_dataset())), of_current[0])
    return (usable or names or [NONE])[0]


def _is_for(name: str, dataset: str) -> bool:
    """Whether an adapter was trained on this dataset, as far as its run is known."""
    if name == DEMO_ADAPTER:
        return dataset == DEMO
    run = next((run for run in all_runs() if run.name == name.partition("/")[0]), None)
    with suppress(Sam3LoraError):  # its settings are damaged
        return run is not None and run.config.data.path == dataset
    return False


def follow_run(key: str) -> None:
    """Makes a choice follow the run that was opened on the train page since an adapter was chosen last.

    Args:
        key: of the choice; call it before :func:`choose`.
    """
    chosen, run_then = st.session_state.get(state.ADAPTER, ("", ""))
    if chosen and run_then != st.session_state.get(state.CURRENT_RUN, ""):
        st.session_state[key] = in_use()


def open_adapter(name: str, folder: Path) -> ModelChoice:
    """Reads an adapter's base model.

    Args:
        name: for people.
        folder: of the adapter, or of its run, see :func:`find_adapter`.

    Raises:
        ModelError: there is no adapter, or its settings cannot be read.
    """
    from sam3_lora.model.base_files.locate import SAM3  # loads PyTorch

    folder = find_adapter(folder)
    base = base_model_of(folder)
    if name.startswith(_UPLOADED) and base not in (DEMO, SAM3):
        base = None  # an uploaded file does not decide which folder is read, or what is downloaded
    if base:
        return ModelChoice(base, name, folder)
    return replace(base_alone(), adapter=name, folder=folder, image_size=None)


def upload(key: str) -> None:
    """Draws the upload of an adapter's archive. key: of the choice, which then selects it."""
    with st.popover(":material/upload:", key=f"{key}-upload", help="An adapter as a zip archive"):
        st.file_uploader(
            "Adapter as a zip archive",
            ["zip"],
            key=f"{key}-archive",
            on_change=_unpack_upload,
            args=(key,),
            help="A zipped adapter folder, or a run from the Train page. Only safetensors and JSON are used.",
        )
        show_kept_error(_REJECTED)


def _unpack_upload(key: str) -> None:
    """Unpacks the archive's adapter and selects it, or stores why it was rejected."""
    from sam3_lora.model import lora
    from sam3_lora.model.adapter_files.archive import unpack
    from sam3_lora.model.base import load_config

    def check(folder: Path, place: str) -> None:
        lora.check_fit(load_config(open_adapter(_UPLOADED, folder).base), folder, place)

    file = st.session_state.get(f"{key}-archive")
    with kept_error(_REJECTED):
        if file is not None:
            st.session_state[key] = _UPLOADED + unpack(file, _uploads(), check, Path(file.name).stem).name


def phrases_for(adapter: Path | None, dataset: str) -> dict[str, str]:
    """The phrases of a dataset's categories: those the adapter was trained with, otherwise the next run's.

    Args:
        adapter: its folder; None for the base model alone.
        dataset: path.
    """
    from sam3_lora.evaluate.store import run_of  # loads PyTorch

    with suppress(Sam3LoraError):  # its settings are damaged
        if run := run_of(adapter):
            return run.config.data.category_phrases
    return phrases_of_dataset(dataset)


@st.cache_data(show_spinner=False, max_entries=20)
def trained_phrases(folder: Path | None) -> list[str]:
    """The phrases that an adapter's run was trained with, whatever dataset is open; [] if they are not known."""
    from sam3_lora.evaluate.store import known_phrases

    with suppress(Sam3LoraError):  # its settings are damaged
        return known_phrases(folder)
    return []


def taught_key(model: ModelChoice) -> str:
    """The key of the text in which this tab's user has changed the phrases that an adapter was taught."""
    return f"taught-{model.folder}"


def taught_phrases(model: ModelChoice) -> tuple[str, ...]:
    """The phrases that an adapter was taught: as this tab's user has changed them, or as stored; () if not known.

    Raises:
        ModelError: the stored ones cannot be read.
    """
    stored = (taught_file.read(model.folder) if model.folder else None) or ()
    typed = st.session_state.get(taught_key(model))
    return stored if typed is None else tuple(split_phrases(typed, stored))


def routing_of(model: ModelChoice) -> Routing | None:
    """The routing by :func:`taught_phrases`; None without an adapter, or if they are not known. Raises ModelError."""
    from sam3_lora.predict.routing import Routing  # loads PyTorch

    routing = Routing(taught_phrases(model)) if model.folder else None
    return routing if routing and routing.taught else None


def explain_routing(model: ModelChoice) -> Routing | None:
    """Says by which phrases the adapter is measured routed, or that nobody knows them; gives the routing."""
    routing = routing_of(model)
    if routing is not None:
        names = escape(first_names(routing.taught, 12))
        st.caption(f"Also measured routed by phrase: the adapter answers {names}, the base model all other phrases.")
    elif model.folder:
        st.caption(
            ":material/info: This adapter does not know which phrases it was taught. To measure it routed by phrase, "
            "too, type them on the Inference page under *Route by phrase*."
        )
    return routing


def explain_demo_model(base: str) -> None:
    """Explains the limits of the demo model, so that its predictions are not taken for SAM 3's."""
    if base == DEMO:
        st.caption(
            ':material/info: The demo model is a tiny stand-in for SAM 3 that has seen drawn shapes only, such as "red '
            'circle" or "star". Without an adapter it finds nothing on pavements; SAM 3 itself knows many objects.'
        )


def explain_choice(model: ModelChoice) -> None:
    """Says which adapter is used if another path was typed; without any adapter, explains how to get one."""
    known = known_adapters()
    if model.folder and model.adapter not in known and model.folder != user_path(model.adapter or ""):
        st.caption(f"Uses the adapter {escape(str(model.folder))}")
    if known or model.folder:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption("No adapters yet. They appear here as soon as a run saves one.", width="content")
        st.page_link("pages/train.py", label="Train one", icon=":material/arrow_forward:")
