"""Writes an evaluation into the model card of the adapter that it measured: a section, and a picture beside it."""

from __future__ import annotations

from pathlib import Path

from sam3_lora.errors import RunError, explain_os_errors
from sam3_lora.evaluate.gain_loss.picture import svg
from sam3_lora.evaluate.gain_loss.points import measured
from sam3_lora.evaluate.report import Report
from sam3_lora.evaluate.store import run_of, was_replaced
from sam3_lora.evaluate.text.messages import gain_loss_meaning, gain_loss_rows
from sam3_lora.files import MB, atomic_write, read_file
from sam3_lora.markdown import escape, table, with_section
from sam3_lora.text import plural

CARD, PICTURE = "README.md", "evaluation.svg"
TITLE, _BEFORE = "Evaluation", "Settings"  # sections of the card
_MAX_BYTES = 10 * MB  # of a card


def write_card(report: Report) -> Path | None:
    """Writes a report into the card of its adapter, in place of an earlier one. Weights and settings stay as they are.

    Only a run's adapter has such a card: folders and archives of the user's own are left alone.

    Returns:
        The card; None if the adapter has none.

    Raises:
        RunError: the run is being trained, its adapter has changed since, or the card cannot be read or written.
    """
    adapter = Path(report.adapter_folder) if report.adapter_folder else None
    run = run_of(adapter)
    if run is None or adapter is None or not (adapter / CARD).is_file():
        return None
    failed, fix = f"The evaluation was not written into the model card of {report.adapter_name}", "Make {} writable"
    if run.status().active:
        raise RunError(f"{failed}, because its run is being trained", "Evaluate again when it has ended")
    if was_replaced(report):
        raise RunError(f"{failed}, because the adapter was replaced meanwhile", "Evaluate again")
    with explain_os_errors(RunError, failed, fix.format(adapter)):
        try:
            card = read_file(adapter / CARD, _MAX_BYTES).decode("utf-8")
        except UnicodeDecodeError:
            raise RunError(f"{failed}, because {CARD} is not valid UTF-8", f"Delete {adapter / CARD}") from None
        section, picture = card_section(report)
        if picture:
            atomic_write(adapter / PICTURE, picture)
        atomic_write(adapter / CARD, with_section(card, TITLE, section, before=_BEFORE))
        if not picture:
            (adapter / PICTURE).unlink(missing_ok=True)
    return adapter / CARD


def card_section(report: Report) -> tuple[str, str]:
    """The section's Markdown without its heading, and the picture as SVG, empty where there is nothing to draw."""
    shown = measured(report)
    lines = [
        f"**{escape(report.verdict)}**",
        "",
        f"{plural(report.images, 'image')} with {plural(report.objects, 'object')} ({escape(report.split)} of "
        f"{escape(Path(report.dataset).name)}), measured {report.made[:10]}.",
        "",
    ]
    if shown.points:
        lines += [*table(["Model", "F1", "Gain", "Kept"], gain_loss_rows(shown.points)), ""]
    lines.append(escape(gain_loss_meaning(shown)))
    if shown.points:
        lines += ["", f"![F1 and what is kept]({PICTURE})"]
    return "\n".join(lines), svg(shown.points) if shown.points else ""
