"""Charts of an evaluation: precision-recall curves, and the matrix of which phrase fires on what."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from sam3_lora.draw import Color
from sam3_lora.evaluate.prompt_leak import Leak
from sam3_lora.evaluate.report import Curve, Report
from sam3_lora.ui.components.plots import LEGEND_ABOVE, empty_figure, plot_names

_RECALLS = np.linspace(0, 1, 101)
_ANYWHERE = "anywhere"
_ON_CELLS = "#ffffff"  # legible on every cell that holds a number, in both themes
_MAX_ROWS = 40  # phrases in the heat map, those with the largest shares


def curve_chart(report: Report, phrase: str, color: Color) -> go.Figure:
    """Precision over recall of masks at IoU 0.5: the adapter's line is solid, the base's dashed.

    Args:
        report: of the evaluation.
        phrase: whose curves are drawn.
        color: of the adapter's line.
    """
    figure = empty_figure(260)
    models = (("Adapter", report.adapter, "solid"), ("Base", report.base, "dash" if report.adapter else "solid"))
    for name, numbers, dash in models:
        curve = numbers.curves.get(phrase) if numbers else None
        if curve is not None:
            figure.add_scatter(
                x=_RECALLS,
                y=curve.precision,
                customdata=curve.scores,
                name=name,
                line={"color": f"rgb{color}" if name == "Adapter" or not report.adapter else "#8c8c8c", "dash": dash},
                hovertemplate="recall %{x:.2f}, precision %{y:.2f}, from score %{customdata:.2f}",
            )
            _mark_threshold(figure, curve, name)
    figure.update_layout(legend=LEGEND_ABOVE, showlegend=bool(report.adapter), dragmode="zoom")
    figure.update_xaxes(title="Recall", range=[0, 1.01], zeroline=False)
    figure.update_yaxes(title="Precision", range=[0, 1.03], zeroline=False)
    return figure


def _mark_threshold(figure: go.Figure, curve: Curve, name: str) -> None:
    """Draws a dot at the score 0.5, if the curve reaches it."""
    above = [index for index, score in enumerate(curve.scores) if score >= 0.5]
    if above:
        figure.add_scatter(
            x=[_RECALLS[above[-1]]],
            y=[curve.precision[above[-1]]],
            mode="markers",
            marker={"size": 9, "color": figure.data[-1].line.color},
            showlegend=False,
            hovertemplate=f"{name}: score 0.5<extra></extra>",
        )


def leak_rows(report: Report) -> list[int]:
    """The rows of the matrix that are shown: all, or those with the largest share in either model."""
    both = [numbers.leak for numbers in (report.base, report.adapter) if numbers]
    worst = [
        max([share or 0 for leak in both for share in (*leak.on_objects[row], leak.anywhere[row])], default=0)
        for row in range(len(both[0].rows))
    ]
    return sorted(sorted(range(len(worst)), key=lambda row: -worst[row])[:_MAX_ROWS])


def leak_chart(leak: Leak, rows: list[int], with_names: bool) -> go.Figure:
    """The matrix of one model: a row per phrase, a column per kind of object; a cell that cannot leak is empty.

    Args:
        leak: of the model.
        rows: which are shown, see :func:`leak_rows`.
        with_names: whether the phrases are written beside the rows.
    """
    columns = [*leak.columns, _ANYWHERE]
    values = [[*leak.on_objects[row], leak.anywhere[row]] for row in rows]
    figure = empty_figure(60 + 24 * len(rows))
    figure.add_heatmap(
        z=[[np.nan if share is None else share for share in line] for line in values],
        x=plot_names(columns),
        y=plot_names([leak.rows[row] for row in rows]),
        text=[[f"{share:.0%}" if share else "" for share in line] for line in values],
        texttemplate="%{text}",
        textfont={"color": _ON_CELLS},
        zmin=0,
        zmax=1,
        xgap=2,
        ygap=2,
        colorscale=[[0, "rgba(128, 144, 144, 0.10)"], [0.001, "rgb(148, 96, 92)"], [1, "rgb(190, 40, 30)"]],
        showscale=False,
        hoverongaps=False,
        hovertemplate="prompt %{y} fires on %{x}: %{z:.0%}<extra></extra>",
    )
    figure.update_layout(dragmode="zoom")
    figure.update_xaxes(side="top", type="category", showgrid=False)
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False, showticklabels=with_names)
    return figure
