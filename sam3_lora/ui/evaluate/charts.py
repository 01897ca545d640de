"""Charts of an evaluation: gain and loss, precision-recall curves, and the matrix of which phrase fires on what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from sam3_lora.draw import Color
from sam3_lora.evaluate.gain_loss.picture import GOAL, X_TITLE, Y_TITLE, lowest_kept, short_name
from sam3_lora.evaluate.gain_loss.points import GainLoss, Kind, Point, line
from sam3_lora.evaluate.prompt_leak import Leak
from sam3_lora.evaluate.report import Curve, Report
from sam3_lora.evaluate.text.messages import point_name
from sam3_lora.evaluate.verdict import MIN_KEPT
from sam3_lora.ui.components.plots import LEGEND_ABOVE, empty_figure, plot_names, plot_text
from sam3_lora.ui.runs import adapter_title

_RECALLS = np.linspace(0, 1, 101)
_ANYWHERE = "anywhere"
_ON_CELLS = "#ffffff"  # legible on every cell that holds a number, in both themes
_MUTED, _ACCENT = "#8c8c8c", "#0d9488"  # legible on both themes
_SYMBOLS = {Kind.ROUTED: "diamond"}
_MAX_ROWS = 40  # phrases in the heat map, those with the largest shares


def gain_loss_chart(both: GainLoss) -> go.Figure:
    """F1 against what is kept: the report's points named, those of other adapters by their numbers in the table."""
    figure, base = empty_figure(380), both.shown[0]
    lowest = lowest_kept([point for points in (both.shown, *both.others) for point in points])
    # The goal: better than the base model, and next to nothing forgotten.
    figure.add_shape(
        type="rect",
        x0=base.f1,
        x1=1,
        y0=MIN_KEPT,
        y1=1.04,
        fillcolor=_ACCENT,
        opacity=0.12,
        line_width=0,
        layer="below",
    )
    figure.add_annotation(x=1, y=1.04, text=f"{GOAL} ↗", showarrow=False, xanchor="right", yanchor="top")
    for number, points in enumerate(both.others, 1):
        _add_points(figure, points, line([base, *points]), _MUTED, str(number))
    _add_points(figure, both.shown, line(both.shown), _ACCENT)
    figure.update_xaxes(title=X_TITLE, range=[0, 1], zeroline=False)
    figure.update_yaxes(title=Y_TITLE, range=[lowest, 1.04], zeroline=False, tickformat=".0%")
    return figure


def _add_points(figure: go.Figure, points: Sequence[Point], way: Sequence[Point], color: str, number: str = "") -> None:
    """Draws the points of one adapter.

    Args:
        figure: to draw on.
        points: of the adapter.
        way: of its strengths, which are joined.
        color: of all but the base model.
        number: in the table, which stands beside the adapter's own point; empty for the report that is shown.
    """
    figure.add_scatter(
        x=[one.f1 for one in way],
        y=[one.kept for one in way],
        mode="lines",
        line={"color": color, "width": 1.5},
        opacity=0.6,
        hoverinfo="skip",
    )
    names = [f"{adapter_title(one.adapter)}: {point_name(one)}" if number else point_name(one) for one in points]
    texts = [(number if one.kind is Kind.ADAPTER else "") if number else short_name(one) for one in points]
    figure.add_scatter(
        x=[one.f1 for one in points],
        y=[one.kept for one in points],
        mode="markers+text",
        text=texts,
        textposition=[_text_position(one) for one in points],
        marker={
            "color": [_MUTED if one.kind is Kind.BASE else color for one in points],
            "size": [8 if one.kind is Kind.STRENGTH or number else 12 for one in points],
            "opacity": 1,
            "symbol": [_SYMBOLS.get(one.kind, "circle") for one in points],
        },
        customdata=[plot_text(name) for name in names],
        cliponaxis=False,
        hovertemplate="%{customdata}<br>F1 %{x:.3f}, kept %{y:.1%}<extra></extra>",
    )


def _text_position(point: Point) -> str:
    """Where a point's text stands, clear of the line through the strengths and inside of the chart."""
    match point.kind:
        case Kind.BASE:
            return "bottom right"
        case Kind.STRENGTH:
            return "top center" if point.strength < 1 else "bottom center"
    return "middle left" if point.f1 > 0.85 else "middle right"


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
                line={"color": f"rgb{color}" if name == "Adapter" or not report.adapter else _MUTED, "dash": dash},
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
