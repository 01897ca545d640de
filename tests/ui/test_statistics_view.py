"""The charts of a dataset's statistics: they show what was counted, and no name from a file breaks them."""

from __future__ import annotations

import dataclasses

import pytest
from streamlit.testing.v1 import AppTest

from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.doctor import Report, examine
from sam3_lora.ui.dataset import statistics_tables, statistics_view
from tests.factories import SIZE_HW, coco, write_split

HEIGHT, WIDTH = SIZE_HW


@pytest.fixture
def report(tmp_path) -> Report:
    for seed, name in enumerate(("train", "valid")):
        data = coco(images=5, objects=3, categories=("<b>crack</b>", "$a$ *b*", "joint"), seed=seed)
        write_split(tmp_path / name, data)
    return examine(open_dataset(tmp_path))


def test_every_chart_shows_all_that_was_counted(report):
    statistics = report.statistics
    categories = statistics_view.category_chart(statistics)
    assert [bar.name for bar in categories.data] == ["train", "valid"]
    assert sum(sum(bar.x) for bar in categories.data) == statistics.num_objects == 30
    assert set(categories.data[0].y) == {"&lt;b>crack&lt;/b>", "$a$ *b*", "joint"}
    for chart in (statistics_view.size_chart, statistics_view.shape_chart):
        figure = chart(statistics)
        assert sum(figure.data[0].y) == 30
        assert len(figure.layout.xaxis.tickvals) == len(set(figure.layout.xaxis.ticktext))
    assert sum(statistics_view.count_chart(statistics).data[0].y) == 12
    assert list(statistics_view.image_size_chart(statistics).data[0].customdata) == [12]
    assert len(statistics_view.place_chart(statistics).data[0].z) == 24


def test_many_objects_per_image_share_bars(report):
    crowded = dataclasses.replace(report.statistics, objects_per_image=dict.fromkeys(range(300), 1))
    bars = statistics_view.count_chart(crowded).data[0]
    assert sum(bars.y) == 300 and len(bars.x) <= statistics_view.MAX_BINS
    assert bars.customdata[0] == "0 to 7"


def test_few_values_start_at_none(report):
    alike = dataclasses.replace(report.statistics, objects_per_image={100: 3})
    first, last = statistics_view.count_chart(alike).layout.xaxis.range
    assert first == -0.5 and 100 < last < 110


def test_the_models_size_is_told_as_sam_3s(report):
    assert "SAM 3 resizes them to 1008 × 1008" in statistics_view._image_sizes_sentence(report.statistics)


@pytest.mark.parametrize("objects", [0, 2])
def test_the_page_draws_them(tmp_path, objects):
    write_split(tmp_path / "train", coco(images=2, objects=objects, categories=("<b>$crack$</b>",)))

    def page(folder):
        from sam3_lora.data.dataset import open_dataset
        from sam3_lora.data.doctor import examine
        from sam3_lora.ui.dataset import statistics_view

        statistics_view.show(examine(open_dataset(folder)))

    app = AppTest.from_function(page, args=(str(tmp_path),), default_timeout=60).run()
    assert not app.exception
    texts = " ".join(caption.value for caption in app.caption)
    assert ("one category" in texts) if objects else ("No objects" in texts)


def test_the_sentence_on_categories_says_what_it_counts(report):
    assert "the same number of objects" in statistics_view._categories_sentence(report.statistics)
    counts = {"train": {"crack": 240, "joint": 1}}
    uneven = dataclasses.replace(report.statistics, objects_per_category=counts)
    sentence = "crack has 240 objects, 240 times as many as the rarest of 2 categories."
    assert statistics_view._categories_sentence(uneven) == sentence


def test_the_tables_hold_the_numbers_of_the_charts(report):
    statistics = report.statistics
    categories = statistics_tables.category_rows(statistics)
    assert (
        sum(row["Objects"] for row in categories) == sum(row["In train"] + row["In valid"] for row in categories) == 30
    )
    for histogram in (statistics.object_shares, statistics.aspect_ratios):
        rows = statistics_tables.histogram_rows(histogram, "unit")
        assert sum(row["Objects"] for row in rows) == 30 and all(row["From (unit)"] < row["To (unit)"] for row in rows)
    assert sum(row["Images"] for row in statistics_tables.count_rows(statistics)) == 12
    assert statistics_tables.image_size_rows(statistics) == [{"Width": WIDTH, "Height": HEIGHT, "Images": 12}]
    assert [len(row) for row in statistics_tables.place_rows(statistics)] == [4, 4, 4]
