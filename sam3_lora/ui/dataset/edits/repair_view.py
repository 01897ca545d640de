"""Repair on the page: what an edit would change in numbers and pictures, and the list of edits with undo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import streamlit as st

from sam3_lora.config.fields import AUTO
from sam3_lora.data.dataset import Dataset
from sam3_lora.data.edits.kinds import EditList
from sam3_lora.data.edits.mending import Changes, Examined, Numbers, changes, mend
from sam3_lora.data.edits.messages import describe_edit
from sam3_lora.data.edits.remedies import ALL, Remedy, remedies, remedy
from sam3_lora.data.findings.findings import Finding
from sam3_lora.data.findings.titles import title_of
from sam3_lora.data.records import ImageRecord
from sam3_lora.draw import category_colors
from sam3_lora.errors import DataError
from sam3_lora.text import first_names, plural, short
from sam3_lora.ui.components import images
from sam3_lora.ui.components.layout import bullets, escape, guarded, kept_error, show_kept_error
from sam3_lora.ui.dataset import page_state as view
from sam3_lora.ui.dataset.edits import edit_list, merge_view, write_out
from sam3_lora.ui.dataset.page_state import OpenedDataset
from sam3_lora.ui.next_run import use_setting
from sam3_lora.ui.preferences import kept_edits

_PICTURES = 3
_BY_TILES = ("object-vanishes", "too-many-objects", "small-object")  # kinds that training in tiles helps with
_LOOKED_AT = 60  # images, for some that change
_PROBLEM = "edits-problem"  # Sam3LoraError: why the last edit could not be made


@dataclass(frozen=True)
class Preview:
    """What edits would make of a dataset."""

    before: Examined
    after: Examined
    edits: EditList
    images: tuple[tuple[str, str], ...]  # (split, file name) of those that may change

    @property
    def changes(self) -> Changes:
        """In numbers and findings."""
        return changes(self.before, self.after)


def findings_title(opened: OpenedDataset) -> str:
    """The title of the view of findings, such as "Findings (3), 2 edits"."""
    edits = edit_list.current(opened.path).edits
    title = f"Findings ({len(opened.findings)})" if opened.findings else view.FINDINGS
    return f"{title}, {plural(len(edits), 'edit')}" if edits else title


def remedy_of(opened: OpenedDataset, finding: Finding) -> Remedy | None:
    """What mends a finding; None if it needs a person."""
    suggestions = opened.report.suggestions if opened.report else {}
    return remedy(finding, opened.dataset, suggestions)


def offer_fix(opened: OpenedDataset, finding: Finding, index: int) -> None:
    """Draws the button that shows what would mend a finding; nothing where that needs a person.

    Args:
        opened: the dataset.
        finding: of it.
        index: of the finding on the page.
    """
    found = remedy_of(opened, finding)
    if found is not None and st.button("Fix", key=f"fix-{index}", type="tertiary", icon=":material/build:"):
        _show_fix(opened, finding, found)
    if finding.kind in _BY_TILES:
        meaning = "The next run cuts large images into tiles, of a size that is chosen from the dataset."
        icon = ":material/grid_on:"
        if st.button("Train in tiles", key=f"tiles-{index}", type="tertiary", icon=icon, help=meaning):
            use_setting("data.tiles", AUTO)
            st.toast("The next run on this dataset is trained in tiles: see *Tile size* on Configure.", icon=icon)


def show_edits(opened: OpenedDataset) -> None:
    """Draws *Fix all*, and the edits made so far with undo and writing out."""
    show_kept_error(_PROBLEM)
    edits = edit_list.current(opened.path)
    earlier = kept_edits(opened.path)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="edits"):
        certain = [one for finding in opened.findings if (one := remedy_of(opened, finding)) and one.certain]
        accepted = sum(one.only_accepts for one in certain)
        meaning = f"Corrects, or leaves out, what {len(certain) - accepted} findings are about, and accepts {accepted} "
        meaning += "that reading has already taken care of. You see what changes first."
        label = f"Fix all ({len(certain) - accepted})"
        icon = ":material/build:"
        if certain and st.button(label, key="fix-all", icon=icon, type="primary", help=meaning):
            _show_fix_all(opened)
        if edits:
            _show_list(opened, edits)
            write_out.offer(opened)
        elif earlier and st.button("Use earlier edits", key="use-edits", icon=":material/history:"):
            edit_list.use(opened.path, earlier)
            st.rerun()
        merge_view.offer(opened)
    write_out.show_progress(opened)


def _show_list(opened: OpenedDataset, edits: EditList) -> None:
    with st.popover(plural(len(edits.edits), "edit"), icon=":material/edit_note:", key="edit-list"):
        st.caption("Applied whenever this dataset is opened here and in the runs on it. Its files stay as they are.")
        for place, edit in enumerate(edits.edits):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(escape(describe_edit(edit)), width="stretch")
                st.button(
                    "Undo", key=f"undo-{place}", type="tertiary", on_click=_undo, args=(opened.path, place), width=70
                )
        st.button("Undo all", key="undo-all", on_click=_undo_all, args=(opened.path,))


def _undo(path: str, place: int) -> None:
    with kept_error(_PROBLEM):
        edit_list.undo(path, place)


def _undo_all(path: str) -> None:
    with kept_error(_PROBLEM):
        edit_list.replace(path, EditList())


@st.dialog("Fix", width="large")
def _show_fix(opened: OpenedDataset, finding: Finding, found: Remedy) -> None:
    with guarded():
        st.markdown(f"**{title_of(finding.kind)}**: {escape(finding.message)}")
        edits = edit_list.current(opened.path).plus(found.edits)
        with st.spinner("Applying the edits"):
            after = edit_list.opened_with(opened.path, opened.state, edits)
        before = Examined(opened.dataset, opened.dataset.findings)
        pictures = tuple((finding.split, name) for name in finding.image_names)
        st.markdown(bullets([escape(describe_edit(edit)) for edit in found.edits]))
        _show_preview(opened, Preview(before, Examined(after, after.findings), edits, pictures))


@st.dialog("Fix all", width="large")
def _show_fix_all(opened: OpenedDataset) -> None:
    with guarded():
        suggestions = opened.report.suggestions if opened.report else {}

        def open_with(edits: EditList) -> Dataset:
            return edit_list.opened_with(opened.path, opened.state, edits)

        with st.spinner("Applying the edits"):
            first = edit_list.current(opened.path).plus(remedies(opened.findings, opened.dataset, suggestions))
            edits, after = mend(Examined.of(open_with(first), deep=False), open_with, first, (ALL,))
        fixed = [one for one in opened.findings if (found := remedy_of(opened, one)) and found.certain]
        pictures = tuple((one.split, name) for one in fixed for name in one.image_names[:_PICTURES])
        before = Examined(opened.dataset, opened.dataset.findings)
        _show_preview(opened, Preview(before, after, edits, pictures))


def _show_preview(opened: OpenedDataset, preview: Preview) -> None:
    """Draws what changes, and the buttons."""
    found = preview.changes
    lines = [
        f"Split *{escape(name)}*: {numbers}" for name, pair in found.numbers.items() if (numbers := in_numbers(*pair))
    ]
    lines += [f"{how}: {escape(first_names(titles, 12))}" for how, titles in _outcomes(opened, preview).items()]
    if new := list(dict.fromkeys(title_of(kind) for kind, _ in found.new)):
        lines.append(f"New: {escape(first_names(new, 12))}")
    st.markdown(bullets(lines or ["No number of images or objects changes."]))
    st.caption("The files stay as they are. What is applied here can be undone.")
    with st.container(horizontal=True):
        if st.button("Apply", key="fix-apply", type="primary"):
            edit_list.replace(opened.path, preview.edits)
            st.rerun()
        if st.button("Cancel", key="fix-cancel"):
            st.rerun()
    for name, *pair in changed_images(preview):
        _show_pair(opened, preview, name, pair)


def _outcomes(opened: OpenedDataset, preview: Preview) -> dict[str, list[str]]:
    """The titles of the findings that would be gone, by what is done about them."""
    outcomes: dict[str, dict[str, None]] = {}
    known = {(one.kind, one.split): remedy_of(opened, one) for one in opened.findings}
    for kind, split in preview.changes.mended:
        found = known.get((kind, split))
        how = "Corrected"
        if preview.edits.accepts(kind, split):
            how = "Already handled by reading, nothing changes"
        elif found is not None and found.only_excludes:
            how = "Left out of the dataset"
        outcomes.setdefault(how, {})[title_of(kind)] = None
    return {how: list(titles) for how, titles in sorted(outcomes.items(), reverse=True)}


def changed_images(preview: Preview) -> list[tuple[str, ImageRecord, ImageRecord | None]]:
    """A few images that the edits change or leave out: file name, and record before and after (None: left out)."""
    found: list[tuple[str, ImageRecord, ImageRecord | None]] = []
    for split, name in preview.images[:_LOOKED_AT]:
        before, after = (_record(one.dataset, split, name) for one in (preview.before, preview.after))
        if before is not None and not before.missing and before.annotations != (after and after.annotations):
            found.append((name, before, after))
    return found[:_PICTURES]


def _show_pair(opened: OpenedDataset, preview: Preview, name: str, pair: Sequence[ImageRecord | None]) -> None:
    """Draws an image before and after the edits."""
    st.markdown(f"**{escape(short(name))}**")
    both = zip(st.columns(2), ("Before", "After"), (preview.before, preview.after), pair, strict=True)
    for column, title, one, record in both:
        with column:
            if record is None:
                st.caption(f"{title}: not in the dataset")
                continue
            st.caption(f"{title}: {plural(len(record.annotations), 'object')}")
            version = (*opened.state, title, preview.edits.digest)
            try:
                picture = images.thumbnail(record, version, images.Layers(), category_colors(one.dataset.categories))
                st.image(picture, width="stretch", alt=f"{name}, {title.lower()}")
            except DataError as error:
                st.caption(escape(error.message))


def _record(dataset: Dataset, split: str, name: str) -> ImageRecord | None:
    """The image of a name, in the split or, if it was moved, in another one."""
    for _, one in sorted(dataset.splits.items(), key=lambda pair: pair[0] != split):
        for record in one.images:
            if record.file_name == name:
                return record
    return None


def in_numbers(before: Numbers, after: Numbers) -> str:
    """What changes in a split, such as "64 → 60 images, 120 → 110 objects"; "" if nothing does."""
    pairs = ((field.name, getattr(before, field.name), getattr(after, field.name)) for field in fields(Numbers))
    return ", ".join(f"{was:,} → {now:,} {name}" for name, was, now in pairs if was != now)
