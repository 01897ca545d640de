"""Charts of a dataset's statistics: categories, sizes, shapes and positions of objects."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import partial

import plotly.graph_objects as go
import streamlit as st

from sam3_lora.data.doctor import Histogram, Report, Statistics
from sam3_lora.text import plural, short
from sam3_lora.ui.components.layout import escape
from sam3_lora.ui.components.plots import LEGEND_ABOVE, empty_figure, plot_names, plot_text, show_figure
from sam3_lora.ui.dataset import statistics_tables as tables

# Readable on light and dark backgrounds; a split has the same color in every chart.
COLORS = ("#14998c", "#d6a13b", "#7f8fa6", "#b07aa1", "#8c8c8c")
MAX_CATEGORIES = 30  # bars; rarer categories are in the report only
MAX_BINS = 40
_HEIGHT = 300


def show(report: Report) -> None:
    """Draws the charts of a report, each with one sentence about it."""
    statistics = report.statistics
    if not statistics.num_objects:
        st.caption("No objects to chart.")
        return
    shares, ratios = statistics.object_shares, statistics.aspect_ratios
    charts: tuple[tuple[str, str, Callable[[Statistics], go.Figure], Callable[[], tables.Rows]], ...] = (
        (
            "Objects per category",
            _categories_sentence(statistics),
            category_chart,
            partial(tables.category_rows, statistics),
        ),
        ("Object positions", _PLACES_SENTENCE, place_chart, partial(tables.place_rows, statistics)),
        (
            "Object sizes",
            _sizes_sentence(shares),
            size_chart,
            partial(tables.histogram_rows, shares, "% of image", 100),
        ),
        ("Object shapes", _SHAPES_SENTENCE, shape_chart, partial(tables.histogram_rows, ratios, "width / height")),
        ("Objects per image", _counts_sentence(statistics), count_chart, partial(tables.count_rows, statistics)),
        (
            "Image sizes",
            _image_sizes_sentence(statistics),
            image_size_chart,
            partial(tables.image_size_rows, statistics),
        ),
    )
    with st.grid(2, gap="large"):
        for title, sentence, chart, rows in charts:
            with st.container(gap="xxsmall"):
                st.markdown(f"**{title}**")
                st.caption(sentence)
                if chart is not image_size_chart or len(statistics.image_sizes) > 1:
                    show_figure(chart(statistics), title, f"statistics-{title}", rows)


_PLACES_SENTENCE = "Share of objects that cover each position, over all images."
_SHAPES_SENTENCE = "Width to height of the boxes, before the image is resized to the model's square."


def category_chart(statistics: Statistics) -> go.Figure:
    """Bars of objects per category, one color per split, the most frequent on top."""
    total = _per_category(statistics)
    names = [name for name, _ in total.most_common(MAX_CATEGORIES)][::-1]
    figure = empty_figure(max(160, min(_HEIGHT, 80 + 55 * len(names)), 60 + 22 * len(names)))
    for index, (split, counts) in enumerate(statistics.objects_per_category.items()):
        if not any(counts.values()):
            continue
        figure.add_bar(
            x=[counts.get(name, 0) for name in names],
            y=plot_names(names),
            name=plot_text(split),
            orientation="h",
            marker_color=COLORS[min(index, len(COLORS) - 1)],
            hovertemplate="%{y}: %{x:,} objects<extra>%{fullData.name}</extra>",
        )
    figure.update_layout(
        barmode="stack",
        showlegend=len(figure.data) > 1,
        legend=LEGEND_ABOVE,
    )
    figure.update_yaxes(type="category")
    return figure


def place_chart(statistics: Statistics) -> go.Figure:
    """Heat map of object positions; the top of the image is at the top."""
    figure = empty_figure(_HEIGHT)
    figure.add_heatmap(
        z=statistics.heat_map,
        colorscale=[[0, "rgba(20, 153, 140, 0.03)"], [1, "rgba(20, 153, 140, 1)"]],
        zmin=0,
        hovertemplate="%{z:.1%} of the objects<extra></extra>",
        colorbar={"tickformat": ".0%", "thickness": 10, "outlinewidth": 0},
    )
    figure.update_xaxes(visible=False, constrain="domain")
    figure.update_yaxes(visible=False, autorange="reversed", scaleanchor="x")
    return figure


def size_chart(statistics: Statistics) -> go.Figure:
    """Histogram of object areas as a share of the image, by powers of ten."""
    return _histogram_chart(statistics.object_shares, lambda share: f"{share:.4%}".rstrip("0%").rstrip(".") + " %")


def shape_chart(statistics: Statistics) -> go.Figure:
    """Histogram of box aspect ratios, by powers of two."""
    return _histogram_chart(
        statistics.aspect_ratios, lambda ratio: f"{ratio:.0f}:1" if ratio >= 1 else f"1:{1 / ratio:.0f}"
    )


def count_chart(statistics: Statistics) -> go.Figure:
    """Histogram of objects per image, in at most MAX_BINS bars."""
    width = max(1, math.ceil((max(statistics.objects_per_image) + 1) / MAX_BINS))
    bins: Counter[int] = Counter()
    for objects, images in statistics.objects_per_image.items():
        bins[objects // width] += images
    labels = [str(at * width) if width == 1 else f"{at * width} to {at * width + width - 1}" for at in bins]
    figure = empty_figure(_HEIGHT)
    figure.add_bar(
        x=[at * width + (width - 1) / 2 for at in bins],
        y=list(bins.values()),
        width=0.9 * width,
        customdata=labels,
        marker_color=COLORS[0],
        hovertemplate="%{customdata} objects: %{y:,} images<extra></extra>",
    )
    figure.update_xaxes(title_text="objects", range=[-0.5, max((max(bins) + 1) * width, 5) - 0.5])
    figure.update_yaxes(title_text="images")
    return figure


def image_size_chart(statistics: Statistics) -> go.Figure:
    """Image sizes as circles, whose area grows with the number of images."""
    sizes = list(statistics.image_sizes.items())[:500]
    most = sizes[0][1]
    figure = empty_figure(_HEIGHT)
    figure.add_scatter(
        x=[width for (width, _), _ in sizes],
        y=[height for (_, height), _ in sizes],
        customdata=[images for _, images in sizes],
        mode="markers",
        marker={
            "size": [8 + 24 * math.sqrt(images / most) for _, images in sizes],
            "color": COLORS[0],
            "opacity": 0.6,
            "line_width": 0,
        },
        hovertemplate="%{x} × %{y} pixels: %{customdata:,} images<extra></extra>",
    )
    reach = 1.15 * max(max(size) for size, _ in sizes)
    figure.update_xaxes(title_text="width", range=[0, reach])
    figure.update_yaxes(title_text="height", range=[0, reach])
    return figure


def _histogram_chart(histogram: Histogram, label: Callable[[float], str]) -> go.Figure:
    """A histogram without the empty bins at both ends. label: the text at an edge, of which each fourth has one."""
    filled = [place for place, count in enumerate(histogram.counts) if count]
    first, last = max(filled[0] - 1, 0), min(filled[-1] + 1, len(histogram.counts) - 1)
    shown = range(first, last + 1)
    figure = empty_figure(_HEIGHT)
    figure.add_bar(
        x=[place + 0.5 for place in shown],
        y=[histogram.counts[place] for place in shown],
        width=0.92,
        marker_color=COLORS[0],
        hovertemplate="%{y:,} objects<extra></extra>",
    )
    ticks = range(0, len(histogram.edges), 4)
    texts = [label(histogram.edges[place]) for place in ticks]
    figure.update_xaxes(tickvals=list(ticks), ticktext=texts, range=[first - 0.2, last + 1.2], zeroline=False)
    figure.update_yaxes(title_text="objects")
    return figure


def _per_category(statistics: Statistics) -> Counter[str]:
    return sum((Counter(counts) for counts in statistics.objects_per_category.values()), Counter())


def _categories_sentence(statistics: Statistics) -> str:
    ordered = _per_category(statistics).most_common()
    (name, most), least = ordered[0], ordered[-1][1]
    if len(ordered) == 1:
        return f"{plural(most, 'object')} of one category."
    rest = len(ordered) - MAX_CATEGORIES
    note = f" The {rest} rarest are in the report only." if rest > 0 else ""
    if most < 2 * least:
        return f"All {len(ordered)} categories have about the same number of objects."
    times = f"{most / least:.0f} times as many as the rarest of {len(ordered)} categories"
    return f"{escape(short(name))} has {plural(most, 'object')}, {times}.{note}"


def _sizes_sentence(shares: Histogram) -> str:
    return f"Share of the image's area; half of the objects cover less than {shares.median:.2%}."


def _counts_sentence(statistics: Statistics) -> str:
    empty = statistics.objects_per_image.get(0, 0)
    without = f"{plural(empty, 'image')} without objects." if empty else "Every image has objects."
    return f"At most {max(statistics.objects_per_image):,} per image. {without}"


def _image_sizes_sentence(statistics: Statistics) -> str:
    (width, height), images = next(iter(statistics.image_sizes.items()))
    if len(statistics.image_sizes) == 1:
        return f"All images are {width} × {height} pixels; SAM 3 resizes them to 1008 × 1008."
    return (
        f"{len(statistics.image_sizes):,} sizes; the most frequent is {width} × {height}, in {plural(images, 'image')}."
    )
