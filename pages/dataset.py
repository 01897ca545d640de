"""The dataset page: open a dataset, see what is wrong with it, look at its images and their objects."""

from functools import partial

import streamlit as st

from sam3_lora.config import DEMO
from sam3_lora.errors import DataError
from sam3_lora.ui import dataset_view as view
from sam3_lora.ui import resources, state
from sam3_lora.ui.components.layout import empty_state, escape, page, show_error
from sam3_lora.ui.dataset import findings, gallery, image_view, phrases_view
from sam3_lora.ui.dataset.scan_job import ScanJob, scan_job_of, show_scan, start_scan
from sam3_lora.ui.dataset_view import Opened
from sam3_lora.ui.next_run import phrases_of_dataset, read_dataset_as

MAX_SPLITS = 4  # before their table scrolls
_BROKEN_PROBLEM = "broken-copy-problem"  # DataError of the last try


def main() -> None:
    with page("Dataset", "Look at what the model will learn from, and at everything that is wrong with it."):
        view.read_link()
        path = choose_path()
        if isinstance(problem := st.session_state.get(_BROKEN_PROBLEM), DataError):
            show_error(problem)
        try:
            show_dataset(path)
        finally:  # a folder that cannot be opened has an address, too
            view.write_link()


def show_dataset(path: str) -> None:
    if not path:
        empty_state(
            "photo_library",
            "No dataset is open",
            "Give a dataset's folder above, or use the demo to look around.",
        )
        return
    dataset = resources.open_dataset(path)
    st.session_state[state.DATASET_PATH] = path
    fingerprint = (*resources.fingerprint(path), *state.reading(path))
    scan = scan_job_of(path, fingerprint)
    report = scan.snapshot().result
    show(Opened(path, fingerprint, dataset, report.findings if report else dataset.findings), scan)


def choose_path() -> str:
    """The path field with the demo beside it."""
    if view.PATH not in st.session_state and state.dataset_path():
        st.session_state[view.PATH] = state.dataset_path()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        path = st.text_input(
            "Dataset folder",
            key=view.PATH,
            placeholder="A folder with train, valid and test inside",
            on_change=view.reset,
        )
        st.button("Use the demo", key="use_demo", on_click=use_demo, disabled=path == DEMO)
        if not path:
            st.button(
                "Open a broken copy",
                key="use_broken",
                on_click=use_broken_copy,
                help="The demo with one of each fault, to learn what the findings mean",
            )
        st.button(
            "Read again",
            key="read_again",
            icon=":material/refresh:",
            on_click=resources.forget_datasets,
            disabled=not path,
            help="Read the files again after changing them",
        )
        path = path.strip().strip("\"'")  # a path copied from a file manager may come in quotes
        if path and path != DEMO:
            choose_reading(path)
    return path


def choose_reading(path: str) -> None:
    """What cannot be found out by looking: where else images lie, and what objects without a category are."""
    images, phrase = state.reading(path)

    def read_anew() -> None:
        read_dataset_as(path, st.session_state["read-images"], st.session_state["read-phrase"])
        view.reset()

    with st.popover("Options", icon=":material/tune:", key="reading"):
        # Drawn anew for each dataset, whose own words they hold.
        st.session_state.setdefault("read-images", images)
        st.session_state.setdefault("read-phrase", phrase)
        if st.session_state.get("read-of") != path:
            st.session_state.update({"read-of": path, "read-images": images, "read-phrase": phrase})
        st.text_input(
            "Images in another folder",
            key="read-images",
            placeholder="Beside the annotations",
            on_change=read_anew,
        )
        st.text_input(
            "Phrase for objects without a category",
            key="read-phrase",
            placeholder="The folder's name",
            on_change=read_anew,
            help="Segment Anything's own files say where objects are, but not what they are.",
        )


def use_demo() -> None:
    view.reset()
    st.session_state[view.PATH] = DEMO


def use_broken_copy() -> None:
    """Opens the demo with one of each fault; the copy is made where the system keeps what can be made anew."""
    st.session_state[_BROKEN_PROBLEM] = None
    try:
        path = resources.broken_copy()
    except DataError as error:
        st.session_state[_BROKEN_PROBLEM] = error
        return
    view.reset()
    st.session_state[view.PATH] = str(path)


def show(opened: Opened, scan: ScanJob) -> None:
    view.keep_to_dataset(opened)
    phrases = phrases_of_dataset(opened.path)
    label = st.session_state.get(view.IMAGE)
    if label:
        st.session_state[state.CURRENT_IMAGE] = f"{st.session_state[view.SPLIT]}/{label}"
        image_view.show(opened, phrases)
        return
    chosen = choose_view(opened)
    if chosen == view.FINDINGS:
        show_findings(opened, scan)
    elif chosen == view.STATISTICS:
        show_statistics(opened, scan)
    elif chosen == view.PHRASES:
        phrases_view.show(opened, phrases)
    else:
        show_images(opened, scan)


def choose_view(opened: Opened) -> str:
    """What was recognised, and the choice between the page's views."""
    titles = {view.FINDINGS: f"Findings ({len(opened.findings)})"} if opened.findings else {}
    with st.container(horizontal=True, vertical_alignment="center"):
        st.segmented_control(
            "View",
            view.VIEWS,
            format_func=lambda name: titles.get(name, name),
            required=True,
            key=view.VIEW,
            label_visibility="collapsed",
            persist_state="session",
        )
        st.space("stretch")
        st.caption(f":material/check: {escape(opened.dataset.format)}", width="content")
    return st.session_state[view.VIEW]


def show_images(opened: Opened, scan: ScanJob) -> None:
    """The splits in numbers beside the worst findings, so that errors are in the first screen; then the grid."""
    numbers, wrong = st.columns([5, 6], gap="large")
    with numbers:
        table = view.split_table(opened.path, opened.state, opened)
        few = len(table) <= MAX_SPLITS
        st.dataframe(table, hide_index=True, height="auto" if few else 184, alt="Images and objects of each split")
        st.page_link("pages/configure.py", label="Configure a run on this dataset", icon=":material/arrow_forward:")
    with wrong, st.container(gap="small"):
        scanned = scan.snapshot().result is not None
        findings.show_worst(opened.findings, scanned)
        if not opened.findings and not scanned:
            st.button(
                "Scan all images",
                key="scan-images",
                type="tertiary",
                icon=":material/troubleshoot:",
                on_click=scan_images,
                args=(opened, scan),
            )
        if opened.findings:
            st.button(
                f"All findings: {findings.summary(opened.findings)}",
                key="all-findings",
                type="tertiary",
                icon=":material/list:",
                on_click=view.show_view,
                args=(view.FINDINGS,),
            )
    if opened.split_names:
        gallery.show(opened)
    else:
        empty_state("hide_image", "No split has an image", "Correct what is listed above, then read the dataset again.")


def scan_images(opened: Opened, scan: ScanJob) -> None:
    start_scan(scan, opened.dataset)
    view.show_view(view.FINDINGS)


def show_findings(opened: Opened, scan: ScanJob) -> None:
    show_scan(scan, opened.dataset, "Until then only the annotation files and a few images were read.")
    if opened.findings:
        st.caption(findings.summary(opened.findings))
    if not opened.findings:
        findings.show_none(scan.snapshot().result is not None)
    findings.show(opened.findings, partial(view.open_named, opened), partial(view.show_images_of, opened))


def show_statistics(opened: Opened, scan: ScanJob) -> None:
    show_scan(scan, opened.dataset, "Shows what the dataset holds: classes, sizes, places, look-alikes.")
    if report := scan.snapshot().result:
        from sam3_lora.ui.dataset import statistics_view

        statistics_view.show(report)


main()
