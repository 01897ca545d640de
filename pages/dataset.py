"""The dataset page: open a dataset, see what is wrong with it, browse its images and annotations."""

from contextlib import suppress
from functools import partial

import streamlit as st

from sam3_lora.data.dataset import Dataset
from sam3_lora.errors import Sam3LoraError
from sam3_lora.ui import resources, state
from sam3_lora.ui.components.layout import empty_state, escape, page
from sam3_lora.ui.components.tables import show_table
from sam3_lora.ui.dataset import findings, gallery, image_view, phrases_view
from sam3_lora.ui.dataset import page_state as view
from sam3_lora.ui.dataset.dataset_form import choose_path
from sam3_lora.ui.dataset.edits import repair_view
from sam3_lora.ui.dataset.page_state import OpenedDataset
from sam3_lora.ui.dataset.scan_job import SMALL, scan_job_of, show_scan, start_scan
from sam3_lora.ui.next_run import phrases_of_dataset
from sam3_lora.ui.preferences import RecentDataset, remember_dataset

MAX_SPLITS = 4  # before their table scrolls


def main() -> None:
    with page("Dataset", "Browse the training data and see everything that is wrong with it."):
        view.read_link()
        path = choose_path()
        try:
            show_dataset(path)
        finally:  # a folder that cannot be opened has an address, too
            view.write_link()


def show_dataset(path: str) -> None:
    dataset = resources.open_dataset(path)
    st.session_state[state.DATASET_PATH] = path
    remember(path, dataset)
    fingerprint = resources.fingerprint(path)
    scan_job = scan_job_of(path, fingerprint, dataset)
    show(OpenedDataset(path, fingerprint, dataset, scan_job, scan_job.snapshot()))


def remember(path: str, dataset: Dataset) -> None:
    """Puts the dataset among the recent ones of the start page."""
    data = state.dataset_settings(path)
    with suppress(Sam3LoraError):  # nowhere to write: there is only no list then
        remember_dataset(
            RecentDataset(
                path,
                images=sum(len(split.images) for split in dataset.splits.values()),
                objects=sum(split.num_objects for split in dataset.splits.values()),
                categories=dataset.categories,
                num_categories=len(dataset.categories),
                errors=sum(finding.severity == "error" for finding in dataset.findings),
                image_dir=data.image_dir,
                default_phrase=data.default_phrase,
                crowds_as_objects=data.crowds_as_objects,
            )
        )


def show(opened: OpenedDataset) -> None:
    view.keep_to_dataset(opened)
    phrases = phrases_of_dataset(opened.path)
    label = st.session_state.get(view.IMAGE)
    if label:
        st.session_state[state.CURRENT_IMAGE] = f"{st.session_state[view.SPLIT]}/{label}"
        image_view.show(opened, phrases)
        return
    chosen = choose_view(opened)
    if chosen == view.FINDINGS:
        show_findings(opened)
    elif chosen == view.STATISTICS:
        show_statistics(opened)
    elif chosen == view.PHRASES:
        phrases_view.show(opened, phrases)
    else:
        show_images(opened)


def choose_view(opened: OpenedDataset) -> str:
    """The choice between the page's views, beside the dataset's format."""
    titles = {view.FINDINGS: repair_view.findings_title(opened)}
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


def show_images(opened: OpenedDataset) -> None:
    """The splits in numbers beside the worst findings, so that errors are visible at once; then the grid."""
    numbers, worst = st.columns([6, 5], gap="large")
    with numbers:
        table = view.split_table(opened)
        few = len(table) <= MAX_SPLITS
        crowds = {"Crowds": st.column_config.NumberColumn(help=view.CROWDS_HELP)}
        show_table(table, "Images and objects of each split", crowds, height="auto" if few else 184)
        st.page_link("pages/configure.py", label="Configure a run on this dataset", icon=":material/arrow_forward:")
    with worst, st.container(gap="small"):
        findings.show_worst(opened.findings)
        if opened.findings:
            label, icon = f"All findings: {findings.summary(opened.findings)}", ":material/list:"
            show_all = partial(view.show_view, view.FINDINGS)
            st.button(label, key="all-findings", type="tertiary", icon=icon, on_click=show_all)
        else:
            findings.show_none(scanned=opened.report is not None)
            if opened.report is None:
                icon, scan = ":material/troubleshoot:", partial(scan_images, opened)
                st.button("Scan all images", key="scan-images", type="tertiary", icon=icon, on_click=scan)
    if opened.split_names:
        gallery.show(opened)
    else:
        empty_state("hide_image", "No split has an image", "Fix the errors above, then reload the dataset.")


def scan_images(opened: OpenedDataset) -> None:
    start_scan(opened.scan_job, opened.dataset)
    view.show_view(view.FINDINGS)


def show_findings(opened: OpenedDataset) -> None:
    show_scan(opened, "So far, only the annotation files and a few images have been read.")
    if opened.findings:
        st.caption(findings.summary(opened.findings))
    else:
        findings.show_none(scanned=opened.report is not None)
    repair_view.show_edits(opened)
    findings.show(opened)


def show_statistics(opened: OpenedDataset) -> None:
    show_scan(opened, "Shows class balance, object sizes and positions, and near duplicates.", SMALL)
    if opened.report:
        from sam3_lora.ui.dataset import statistics_view

        statistics_view.show(opened.report)


main()
