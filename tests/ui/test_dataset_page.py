"""The dataset page as a person uses it: the demo, the founding bugs, filters, one image large, mistakes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from sam3_lora.config import AugmentationConfig, Negatives
from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.edits.file import read_edits
from sam3_lora.data.findings.titles import title_of
from sam3_lora.data.samples import SampleDataset
from sam3_lora.ui.dataset import page_state as view
from sam3_lora.ui.dataset.page_state import IMAGES_PER_PAGE
from sam3_lora.ui.dataset.phrases_view import with_edits
from sam3_lora.ui.preferences import kept_edits
from sam3_lora.ui.state import RUN_CONFIG
from tests.data.findings.helpers import opened
from tests.factories import FOUNDING_BUGS, coco, tiny_processor, write_dataset, write_split, write_spoiled
from tests.ui.helpers import dataset_page

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AppTest:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("SAM3_LORA_RUNS", str(tmp_path / "runs"))
    return dataset_page()


def open_path(app: AppTest, path: Path | str) -> AppTest:
    app.run().text_input(key="path").set_value(str(path)).run()
    assert not app.exception
    return app


def text_on(app: AppTest) -> str:
    return "\n".join(element.value for element in [*app.markdown, *app.caption])


def thumbnails(app: AppTest) -> list[str]:
    return [button.label.replace("\\", "") for button in app.button if button.key.startswith("open-")]


def test_an_emptied_field_shows_the_dataset_that_all_pages_work_with(app: AppTest, tmp_path: Path) -> None:
    path = str(write_dataset(tmp_path))
    open_path(app, path).text_input(key="path").set_value("  ").run()
    assert app.text_input(key="path").value == app.session_state["dataset_path"] == path
    app.button(key="use_demo").click().run()
    assert app.session_state["dataset_path"] == "demo" and not app.error


def test_demo_opens_with_its_counts(app: AppTest) -> None:
    app.run()
    assert not app.exception and not app.error
    dataset = open_dataset("demo")
    assert dataset.format in text_on(app)
    table = app.dataframe[0].value.set_index("Split")
    for name, split in dataset.splits.items():
        assert table.loc[name, "Images"] == len(split.images)
        assert table.loc[name, "Objects"] == split.num_objects
    first = next(iter(dataset.splits.values()))
    assert thumbnails(app) == [image.file_name for image in first.images[:IMAGES_PER_PAGE]]
    assert app.session_state["dataset_path"] == "demo"


@pytest.mark.parametrize(("spoil", "kind"), FOUNDING_BUGS)
def test_each_founding_bug_is_named_with_its_fix(
    app: AppTest, tmp_path: Path, spoil: Callable[[dict[str, Any]], None], kind: str
) -> None:
    open_path(app, write_spoiled(tmp_path, spoil))
    assert f":red[:material/error:] **{title_of(kind)}**" in text_on(app)
    finding = next(f for f in open_dataset(tmp_path).findings if f.kind == kind)
    plain = text_on(app).replace("\\", "")
    assert finding.message in plain and finding.fix in plain
    assert len(thumbnails(app)) == len(coco()["images"]), "the images are still there to look at"


@pytest.mark.parametrize("path", ["/no/such/folder", "~nobody-of-this-name/data", "a\0b"])
def test_bad_path_gives_one_sentence(app: AppTest, path: str) -> None:
    open_path(app, path)
    assert len(app.error) == 1
    assert "Traceback" not in app.error[0].value
    assert app.session_state["dataset_path"] == "demo", "the other pages keep the one that they have"


def test_a_path_may_come_in_quotes(app: AppTest, tmp_path: Path) -> None:
    open_path(app, f'"{write_dataset(tmp_path)}"')
    assert not app.error and thumbnails(app)


def test_folder_without_annotations_says_how_to_get_them(app: AppTest, tmp_path: Path) -> None:
    open_path(app, tmp_path)
    assert "Export the dataset" in app.error[0].value


def test_filter_shows_only_matching_images(app: AppTest, tmp_path: Path) -> None:
    write_dataset(tmp_path, images=5, objects=1)
    open_path(app, tmp_path)
    split = open_dataset(tmp_path).split("train")
    app.multiselect(key="categories").set_value(["pothole"]).run()
    expected = [image.file_name for image in split.images if "pothole" in {a.category for a in image.annotations}]
    assert thumbnails(app) == expected
    assert 0 < len(expected) < len(split.images)
    app.button(key="clear-filters").click().run()
    assert thumbnails(app) == [image.file_name for image in split.images]
    app.selectbox(key="object_count").set_value("Without objects").run()
    assert thumbnails(app) == [image.file_name for image in split.images if not image.annotations]
    app.text_input(key="name_contains").set_value("no such name").run()
    assert "No image of this split matches" in text_on(app)


def test_colors_are_told_of_the_categories_that_are_drawn(app: AppTest, tmp_path: Path) -> None:
    write_dataset(tmp_path, images=5, objects=1)
    open_path(app, tmp_path)

    def told() -> str:
        return next(element.value for element in app.markdown if "background: rgb" in element.value)

    used = {a.category for image in open_dataset(tmp_path).split("train").images for a in image.annotations}
    assert len(used) > 1 and all(name in told() for name in used)
    app.multiselect(key="categories").set_value(["pothole"]).run()
    assert told().count("background: rgb") == 1 and "pothole" in told()


def test_filter_by_a_finding_and_step_through_its_images_only(app: AppTest, tmp_path: Path) -> None:
    data = coco(images=6)
    spoiled = [data["images"][1]["file_name"], data["images"][4]["file_name"]]
    for item in data["annotations"]:
        if item["image_id"] in (1, 4):
            item["bbox"][0] += 1000
    write_split(tmp_path / "train", data)
    open_path(app, tmp_path)
    assert f"**{title_of('boxes-outside-image')}**" in text_on(app)
    app.button(key="all-findings").click().run()
    finding = next(f for f in open_dataset(tmp_path).findings if f.kind == "boxes-outside-image")
    show = next(
        button for button in app.button if button.label == f"Show {len(finding.image_names)} images in the grid"
    )
    show.click().run()
    assert app.selectbox(key="with_finding").value == "boxes-outside-image"
    assert thumbnails(app) == spoiled
    app.button(key="open-0").click().run()
    app.button(key="next").click().run()
    assert app.session_state[view.IMAGE] == spoiled[1]
    assert app.button(key="next").disabled
    app.button(key="close").click().run()
    assert thumbnails(app) == spoiled


def test_open_image_step_on_and_come_back(app: AppTest, tmp_path: Path) -> None:
    write_dataset(tmp_path, images=3, objects=2)
    open_path(app, tmp_path)
    labels = thumbnails(app)
    app.button(key="open-0").click().run()
    assert not app.exception
    assert thumbnails(app) == []
    assert app.button(key="previous").disabled
    table = app.dataframe[0].value
    record = open_dataset(tmp_path).split("train").images[0]
    assert table["Category"].tolist() == [item.category for item in record.annotations]
    x, y, w, h = record.annotations[0].bbox_xywh
    row = table.iloc[0]
    assert row[["cx", "cy", "w", "h"]].tolist() == pytest.approx(
        [(x + w / 2) / record.width, (y + h / 2) / record.height, w / record.width, h / record.height]
    )
    assert row["Mask (%)"] == pytest.approx(100 * row["Mask (px)"] / (record.width * record.height))
    app.button(key="next").click().run()
    assert app.session_state[view.IMAGE] == labels[1]
    app.toggle(key="show_masks").set_value(False).run()
    app.button(key="close").click().run()
    assert thumbnails(app) == labels


def test_link_opens_the_very_view(app: AppTest, tmp_path: Path) -> None:
    write_dataset(tmp_path)
    wanted = open_dataset(tmp_path).split("valid").images[1].file_name
    app.query_params["path"] = str(tmp_path)
    app.query_params["split"] = "valid"
    app.query_params["image"] = wanted
    app.run()
    assert not app.exception
    assert app.session_state[view.IMAGE] == wanted
    assert f"**{wanted}**" in text_on(app).replace("\\", "")
    assert {name: app.query_params[name] for name in ("split", "image")} == {"split": "valid", "image": wanted}
    app.button(key="close").click().run()
    assert "image" not in app.query_params and app.query_params["split"] == "valid"


def test_a_link_to_what_is_not_there_shows_what_is(app: AppTest, tmp_path: Path) -> None:
    app.query_params["path"] = str(write_dataset(tmp_path))
    app.query_params.update({"split": "test", "image": "gone.png", "view": "Nothing", "see": "all"})
    app.run()
    assert not app.exception and not app.error
    assert thumbnails(app) == [image.file_name for image in open_dataset(tmp_path).split("train").images]


def test_missing_image_is_a_finding_and_a_sentence_not_a_crash(app: AppTest, tmp_path: Path) -> None:
    write_dataset(tmp_path, splits=("train",))
    record = open_dataset(tmp_path).split("train").images[0]
    record.path.unlink()
    open_path(app, tmp_path)
    assert "**Image missing**" in text_on(app)
    app.button(key="open-0").click().run()
    assert not app.exception
    assert record.file_name in app.error[0].value.replace("\\", "")


def test_a_gigantic_image_is_not_decoded(app: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path, splits=("train",))
    for module in ("components.images", "components.viewer", "dataset.model_input"):
        monkeypatch.setattr(f"sam3_lora.ui.{module}.MAX_PIXELS", 1000)
    open_path(app, tmp_path)
    assert text_on(app).count(":material/broken_image:") == len(thumbnails(app)) > 0
    app.button(key="open-0").click().run()
    assert "at most 0 million pixels" in app.error[0].value
    app.session_state[view.SEE] = view.MODEL
    app.run()
    assert not app.exception and "take gigabytes" in app.error[0].value


def test_changed_files_are_read_again(app: AppTest, tmp_path: Path) -> None:
    write_dataset(tmp_path, splits=("train",), images=2)
    open_path(app, tmp_path)
    before = len(thumbnails(app))
    write_dataset(tmp_path, splits=("train",), images=4)
    app.run()
    assert len(thumbnails(app)) == before + 2


def test_many_images_come_in_pages(app: AppTest, tmp_path: Path) -> None:
    write_dataset(tmp_path, splits=("train",), images=IMAGES_PER_PAGE + 2, objects=1, empty_images=0)
    open_path(app, tmp_path)
    first = thumbnails(app)
    assert len(first) == IMAGES_PER_PAGE
    app.session_state["dataset_page"] = 2
    app.run()
    assert len(thumbnails(app)) == 2 and not set(thumbnails(app)) & set(first)
    app.multiselect(key="categories").set_value(["crack"]).run()
    assert not app.exception and thumbnails(app), "a shorter list goes back to its first page"


def test_closing_an_image_leads_back_to_its_page(app: AppTest, tmp_path: Path) -> None:
    write_dataset(tmp_path, splits=("train",), images=IMAGES_PER_PAGE + 2, objects=1, empty_images=0)
    open_path(app, tmp_path)
    app.button(key=f"open-{IMAGES_PER_PAGE - 1}").click().run()
    app.button(key="next").click().run()
    app.button(key="close").click().run()
    assert len(thumbnails(app)) == 2


def open_first_as_the_model_sees_it(app: AppTest) -> AppTest:
    app.button(key="open-0").click().run()
    app.button_group(key="see").set_value(view.MODEL).run()
    assert not app.exception and not app.error
    return app


def test_the_model_sees_what_training_loads(app: AppTest, tmp_path: Path) -> None:
    write_dataset(tmp_path)
    open_first_as_the_model_sees_it(open_path(app, tmp_path))
    dataset = open_dataset(tmp_path)
    samples = SampleDataset(
        dataset.split("train").images,
        tiny_processor(),
        dataset.categories,
        Negatives(3),
        seed=0,
        augmentation=AugmentationConfig(),
    )
    for epoch in (1, 2):
        app.number_input(key="model-view-epoch").set_value(epoch).run()
        samples.set_epoch(epoch - 1)
        sample = samples[0]
        asked, targets = (table.value for table in app.dataframe)
        assert asked["Phrase"].tolist() == list(sample.phrases)
        positive = [kind.startswith("positive") for kind in asked["Kind"]]
        assert positive == [count > 0 for count in sample.targets.counts]
        assert targets[["cx", "cy", "w", "h"]].to_numpy() == pytest.approx(sample.targets.boxes.numpy())
        assert str(sample.targets.boxes) in app.code[0].value


def test_suggested_phrases_are_asked_once_they_are_used(app: AppTest, tmp_path: Path) -> None:
    write_dataset(tmp_path, categories=("PaintMarking", "crack"), objects=1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    open_path(app, tmp_path)
    app.button_group(key="view").set_value(view.PHRASES).run()
    app.button(key="use-suggestions").click().run()
    assert not app.exception
    assert "Changed: PaintMarking → paint marking" in text_on(app)
    app.button_group(key="view").set_value(view.IMAGES).run()
    open_first_as_the_model_sees_it(app)
    assert app.dataframe[0].value["Phrase"][0] == "paint marking"
    assert app.session_state["run_config"].data.category_phrases == {"PaintMarking": "paint marking"}
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before


def test_categories_can_be_learned_as_their_supercategory(app: AppTest, tmp_path: Path) -> None:
    def change(
        data: dict,
    ) -> None:  # joint has no objects of its own, crack has
        data["annotations"] = [entry for entry in data["annotations"] if entry["category_id"] != 3]
        data["categories"] = [
            {"id": 1, "name": "crack", "supercategory": "joint"},
            {"id": 2, "name": "pothole", "supercategory": "crack"},
            {"id": 3, "name": "joint", "supercategory": "none"},
        ]

    opened(tmp_path, change)
    open_path(app, tmp_path)
    app.button_group(key="view").set_value(view.PHRASES).run()
    assert "Never prompted, as only the supercategory of others: joint." in text_on(app)
    app.button(key="merge-supercategories").click().run()
    assert not app.exception
    assert app.session_state["run_config"].data.category_phrases == {"pothole": "crack"}
    assert "merge-supercategories" not in {button.key for button in app.button}


def test_the_model_sees_what_is_not_exhaustive_and_only_listed_negatives(app: AppTest, tmp_path: Path) -> None:
    def change(data: dict) -> None:
        data["images"][0] |= {"neg_category_ids": [3], "not_exhaustive_category_ids": [2]}

    opened(tmp_path, change)
    open_first_as_the_model_sees_it(open_path(app, tmp_path))
    table = app.dataframe[0].value
    assert dict(zip(table["Phrase"], table["Kind"], strict=True)) == {
        "crack": "positive: 1 object",
        "pothole": "positive: 1 object or more",
        "joint": "negative",
    }


def test_an_image_of_which_nothing_is_known_says_that_it_is_left_out(app: AppTest, tmp_path: Path) -> None:
    opened(tmp_path, lambda data: data["images"][-1].update(neg_category_ids=[]))
    open_path(app, tmp_path)
    app.button(key="open-4").click().run()
    app.button_group(key="see").set_value(view.MODEL).run()
    assert not app.exception and "Nothing is known of" in app.error[0].value


def test_phrases_come_back_with_their_dataset(app: AppTest, tmp_path: Path) -> None:
    write_dataset(tmp_path / "one", categories=("PaintMarking",))
    write_dataset(tmp_path / "two", categories=("PaintMarking",))
    open_path(app, tmp_path / "one")
    app.button_group(key="view").set_value(view.PHRASES).run()
    app.button(key="use-suggestions").click().run()
    for name, expected in (("two", {}), ("one", {"PaintMarking": "paint marking"})):
        app.text_input(key="path").set_value(str(tmp_path / name)).run()
        assert app.session_state["run_config"].data.category_phrases == expected


def test_edits_of_the_table_are_own_words() -> None:
    categories = ("class_1", "Paint_Marking", "crack")
    edited = {0: {"Phrase": "  Pothole "}, 1: {"Phrase": "paint marking"}, 2: {"Phrase": None}}
    assert with_edits({"crack": "fissure"}, categories, edited) == {"class_1": "Pothole"}
    assert with_edits({"crack": "fissure"}, categories, {}) == {"crack": "fissure"}


def wait_for_the_scan(app: AppTest, images: int) -> None:
    deadline = time.monotonic() + 20
    while not any(f"{images} images scanned" in caption.value for caption in app.caption):
        assert time.monotonic() < deadline
        time.sleep(0.2)
        app.run()
    assert not app.exception


def test_the_statistics_of_a_small_dataset_need_no_press(app: AppTest, tmp_path: Path) -> None:
    write_dataset(tmp_path, splits=("train",), images=6, objects=1)
    open_path(app, tmp_path)
    app.button_group(key="view").set_value(view.STATISTICS).run()
    wait_for_the_scan(app, 7)


def test_the_doctor_looks_into_every_image(app: AppTest, tmp_path: Path) -> None:
    write_dataset(tmp_path, splits=("train",), images=40, objects=1)
    spoiled = open_dataset(tmp_path).split("train").images[7]
    spoiled.path.write_bytes(spoiled.path.read_bytes()[:200])  # not among the few that opening looks into
    open_path(app, tmp_path)
    app.button_group(key="view").set_value(view.FINDINGS).run()
    app.button(key="scan").click().run()
    wait_for_the_scan(app, 41)
    assert "**Image truncated**" in text_on(app)
    app.button_group(key="view").set_value(view.IMAGES).run()
    app.selectbox(key="with_finding").set_value("image-truncated").run()
    assert thumbnails(app) == [spoiled.file_name]


def test_a_broken_copy_shows_what_findings_mean(app: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM3_LORA_CACHE", str(tmp_path))
    app.run().button(key="use_broken").click().run()
    assert not app.exception and not app.error
    assert app.text_input(key="path").value == str(tmp_path / "broken-demo")
    findings = open_dataset(tmp_path / "broken-demo").findings
    assert len(findings) > 5
    app.button_group(key="view").set_value(view.FINDINGS).run()
    for finding in findings:
        assert finding.message in text_on(app).replace("\\", "")


def test_images_that_lie_elsewhere_are_found_and_the_next_run_knows_where(app: AppTest, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", splits=("train",))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for image in (dataset / "train").glob("*.png"):
        image.rename(elsewhere / image.name)
    open_path(app, dataset)
    assert "are missing" in text_on(app)
    app.text_input(key="read-images").set_value(str(elsewhere)).run()
    assert not app.exception and not app.error
    assert "are missing" not in text_on(app)
    assert app.session_state["run_config"].data.image_dir == str(elsewhere)
    open_path(app, "demo")
    assert app.session_state["run_config"].data.image_dir == ""
    open_path(app, dataset)
    assert app.text_input(key="read-images").value == str(elsewhere)


def test_objects_without_a_category_get_the_users_word(app: AppTest, tmp_path: Path) -> None:
    folder = tmp_path / "sa_000001"
    folder.mkdir()
    data = coco(images=1, empty_images=0)
    write_split(tmp_path / "source", data)
    entry = data["images"][0]
    (tmp_path / "source" / entry["file_name"]).rename(folder / "sa_1.png")
    image = {**entry, "file_name": "sa_1.png", "image_id": entry["id"]}
    (folder / "sa_1.json").write_text(json.dumps({"image": image, "annotations": data["annotations"]}))
    open_path(app, folder)
    app.text_input(key="read-phrase").set_value("road damage").run()
    assert not app.exception and not app.error
    app.segmented_control(key="view").set_value("Phrases").run()
    assert "road damage" in str(app.dataframe[0].value if app.dataframe else text_on(app))
    assert app.session_state["run_config"].data.default_phrase == "road damage"


def test_crowds_are_counted_and_learned_as_objects_if_the_user_says_so(app: AppTest, tmp_path: Path) -> None:
    def crowds(data: dict[str, Any]) -> None:
        for entry in data["annotations"][::2]:
            entry["iscrowd"] = 1

    write_spoiled(tmp_path, crowds)
    open_path(app, tmp_path)
    table = app.dataframe[0].value
    assert (table["Objects"].item(), table["Crowds"].item()) == (4, 4)
    app.toggle(key="read-crowds").set_value(True).run()
    assert not app.exception
    assert app.dataframe[0].value["Objects"].item() == 8 and "Crowds" not in app.dataframe[0].value
    assert app.session_state["run_config"].data.crowds_as_objects
    open_path(app, "demo")
    assert not app.session_state["run_config"].data.crowds_as_objects


def test_a_finding_offers_the_images_that_the_grid_has(app: AppTest, tmp_path: Path) -> None:
    def spoil(data: dict[str, Any]) -> None:
        first, second = data["images"][:2]
        data["images"] += [{**first, "id": 50}, {**second, "id": 51, "file_name": "../../outside.png"}]

    write_spoiled(tmp_path, spoil)
    open_path(app, tmp_path)
    counts = {kind.split(" (")[0]: kind.split(" (")[1] for kind in app.selectbox(key="with_finding").options}
    assert counts["Duplicate file"] == "2)"  # two entries
    assert "Path outside dataset" not in counts  # it is left out
    app.button(key="all-findings").click().run()
    shown = {button.key.split("-", 3)[3]: button.label for button in app.button if button.key.startswith("show-places")}
    assert shown["duplicate-file-train"] == "Show 2 images in the grid"
    assert "path-outside-dataset-train" not in shown


def test_names_under_images_are_told_apart(app: AppTest, tmp_path: Path) -> None:
    data = coco()
    folder = "a/folder/of/many/letters"
    (tmp_path / "train" / folder).mkdir(parents=True)
    for place, entry in enumerate(data["images"]):
        entry["file_name"] = f"{folder}/{place}.png"
    write_split(tmp_path / "train", data)
    open_path(app, tmp_path)
    assert app.button(key="open-0").label.replace("\\", "") == "…/0.png"
    assert folder in app.button(key="open-0").help


def test_the_folder_chosen_in_the_picker_becomes_that_of_all_pages(
    app: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_dataset(tmp_path / "home")
    monkeypatch.setenv("HOME", str(data))
    monkeypatch.setenv("USERPROFILE", str(data))
    app.run().button(key="browse").click().run()
    assert [button.label.split()[0] for button in app.button if button.key in ("picker-0", "picker-1")] == [
        "train",
        "valid",
    ]
    app.button(key="picker-choose").click().run()
    assert not app.exception
    assert app.text_input(key="path").value == app.session_state["dataset_path"] == str(data)


def test_an_image_and_an_object_are_excluded_and_taken_back(app: AppTest, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", images=4)
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    open_path(app, data)
    names = thumbnails(app)
    app.button(key="open-1").click().run()
    app.button(key="edit-hide_image").click().run()
    assert not app.exception and app.session_state[view.IMAGE] == names[2], "the next one comes"
    assert app.button(key="edit-hide_source").disabled, "no object is selected"
    app.button(key="edit-drive_file_move-valid").click().run()
    app.button(key="close").click().run()
    assert thumbnails(app) == [name for name in names if name not in names[1:3]]
    app.segmented_control(key=view.SPLIT).set_value("valid").run()
    assert f"train/{names[2]}" in thumbnails(app)
    app.segmented_control(key=view.VIEW).set_value(view.FINDINGS).run()
    app.button(key="undo-all").click().run()
    app.segmented_control(key=view.VIEW).set_value(view.IMAGES).run()
    app.segmented_control(key=view.SPLIT).set_value("train").run()
    assert thumbnails(app) == names and not app.exception
    assert before == {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}


def test_edits_are_in_use_after_a_reload_on_the_page_and_in_the_next_run(app: AppTest, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", images=4)
    open_path(app, data)
    names = thumbnails(app)
    app.button(key="open-1").click().run()
    app.button(key="edit-hide_image").click().run()
    reloaded = dataset_page()
    open_path(reloaded, data)
    assert len(thumbnails(reloaded)) == len(names) - 1
    reloaded.switch_page("pages/configure.py").run()
    file = reloaded.session_state[RUN_CONFIG].data.edits
    assert len(read_edits(file).edits) == 1 and not reloaded.exception
    reloaded.switch_page("pages/dataset.py").run()
    reloaded.button(key="open-2").click().run()
    reloaded.button(key="edit-hide_image").click().run()
    assert len(read_edits(file).edits) == 2, "a new one loses none"
    reloaded.button(key="close").click().run()
    reloaded.segmented_control(key=view.VIEW).set_value(view.FINDINGS).run()
    reloaded.button(key="undo-all").click().run()
    assert not kept_edits(str(data)) and not reloaded.exception
