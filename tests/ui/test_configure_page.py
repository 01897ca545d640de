"""The configure page without a browser: a form made from config.py, explanations at the field, YAML in and out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from sam3_lora.config import AdapterConfig, RunConfig
from sam3_lora.config.yaml_text import parse_yaml
from sam3_lora.recipes import PRESETS, demo_config, preset, recipe_for
from sam3_lora.ui.components.forms import expected, label_of, setting_names
from sam3_lora.ui.resources import next_run_file
from sam3_lora.ui.state import DATASET_PATH, RUN_CONFIG
from tests.factories import write_dataset
from tests.ui.helpers import open_sections
from tests.ui.run_folders import finished_run

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAM3_LORA_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def configure_page(**session: object) -> AppTest:
    app = open_sections(AppTest.from_file(str(ROOT / "navigation.py"), default_timeout=60))
    for key, value in session.items():
        app.session_state[key] = value
    app.switch_page("pages/configure.py").run()
    assert not app.exception
    return app


def config_of(app: AppTest) -> RunConfig:
    return app.session_state[RUN_CONFIG]


def explanations(app: AppTest) -> list[str]:
    return [element.value for element in app.markdown if element.value.startswith(":small[:red[")]


def upload(app: AppTest, name: str, content: bytes) -> AppTest:
    app.file_uploader(key="config-upload").set_value((name, content, "application/yaml")).run()
    assert not app.exception
    return app


def test_an_untouched_form_is_the_default_configuration(runs: Path) -> None:
    app = configure_page()
    assert config_of(app) == demo_config().with_settings({"output.runs": str(runs)})
    assert app.button_group(key="preset").value == "balanced"
    assert explanations(app) == []


def test_settings_outlive_a_reload_unless_a_run_has_begun_since(runs: Path) -> None:
    app = configure_page()
    app.number_input(key="setting-lora-rank").set_value(32).run()
    assert config_of(configure_page()).lora.rank == 32
    began = finished_run(runs).began
    for seconds, is_kept in ((5, True), (-5, False)):
        os.utime(next_run_file(), (began + seconds, began + seconds))
        assert (config_of(configure_page()).lora.rank == 32) == is_kept


def test_a_section_is_drawn_when_it_is_opened_or_has_a_mistake() -> None:
    key = "setting-lora-dropout"
    app = configure_page(**{f"section-{section}": False for section in RunConfig.model_fields})
    assert key not in {widget.key for widget in app.number_input}
    app.session_state["section-lora"] = True
    app.run()
    app.number_input(key=key).set_value(1.0).run()
    app.session_state["section-lora"] = False
    app.run()
    assert explanations(app), "a mistake stays in view"
    app.number_input(key=key).set_value(0.25).run()
    app.session_state["section-lora"] = False
    app.run()
    assert key not in {widget.key for widget in app.number_input}
    assert config_of(app.run()).lora.dropout == 0.25


def test_every_setting_has_a_widget_with_its_meaning(runs: Path) -> None:
    app = configure_page()
    widgets = [*app.text_input, *app.number_input, *app.toggle, *app.selectbox, *app.multiselect]
    helps = {widget.key: widget.help for widget in widgets}
    for name in setting_names():
        section, field = name.split(".")
        info = RunConfig.model_fields[section].annotation.model_fields[field]
        if field == "category_phrases":  # is only told here: its table stands on the dataset page
            assert any("on the dataset page" in caption.value for caption in app.caption)
            continue
        assert helps[f"setting-{section}-{field}"] == info.description


def test_what_it_costs_is_counted_for_the_demo_and_follows_the_form() -> None:
    def parameters(app: AppTest) -> int:
        metric = next(metric for metric in app.metric if metric.label == "Trainable parameters")
        return int(metric.help.replace(",", ""))

    app = configure_page()
    before = parameters(app)
    app.number_input(key="setting-lora-rank").set_value(32).run()
    assert parameters(app) == 2 * before
    table = next(table.value for table in app.table if "Component" in table.value.columns)
    assert table["Parameters"].str.replace(",", "").astype(int).sum() == 2 * before
    app.number_input(key="setting-training-gradient_accumulation_steps").set_value(4).run()
    assert any("Effective batch: 8 images" in caption.value for caption in app.caption)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_the_lora_section_and_nothing_else(name: str) -> None:
    app = configure_page()
    app.number_input(key="setting-training-epochs").set_value(3)
    app.number_input(key="setting-lora-rank").set_value(5).run()
    assert app.button_group(key="preset").value is None
    app.button_group(key="preset").set_value(name).run()
    assert config_of(app).lora == preset(name).lora
    assert config_of(app).training.epochs == 3
    assert app.button_group(key="preset").value == name
    assert any(caption.value == PRESETS[name][0] for caption in app.caption)


@pytest.mark.parametrize(
    ("widget", "key", "value", "words"),
    [
        ("number_input", "setting-lora-rank", 0, "a whole number from 1 to 512, got 0"),
        ("number_input", "setting-training-learning_rate", 2.0, "a number above 0 and up to 1, got 2.0"),
        ("number_input", "setting-lora-dropout", 1.0, "a number from 0 to below 1, got 1.0"),
        ("text_input", "setting-output-name", "../x", "letters a to z, digits, spaces, dots and dashes, got ../x"),
        ("text_input", "setting-data-path", "", "some text"),
        ("multiselect", "setting-lora-components", [], "at least one choice"),
    ],
)
def test_a_wrong_value_is_explained_at_its_field(widget: str, key: str, value: object, words: str) -> None:
    app = configure_page()
    before = config_of(app)
    getattr(app, widget)(key=key).set_value(value).run()
    (explanation,) = explanations(app)
    assert words in explanation.replace("\\", "")
    assert config_of(app) == before, "the last configuration that was right stays in force"
    assert app.button(key="go-to-training").disabled
    # The training page must not start with values that are no longer on the form.
    app.switch_page("pages/train.py").run()
    assert app.button(key="start").disabled
    assert "configure page" in app.button(key="start").help


def test_a_mistake_that_is_corrected_is_forgotten() -> None:
    app = configure_page()
    app.number_input(key="setting-lora-rank").set_value(1000).run()
    app.number_input(key="setting-lora-rank").set_value(4).run()
    assert explanations(app) == [] and not app.button(key="go-to-training").disabled
    assert config_of(app).lora.rank == 4


def test_values_survive_a_change_of_page() -> None:
    app = configure_page()
    app.text_input(key="setting-output-name").set_value("potholes")
    app.number_input(key="setting-training-max_steps").set_value(7).run()
    app.switch_page("pages/train.py").run()
    assert any("potholes" in element.value for element in app.markdown)
    app.switch_page("pages/configure.py").run()
    assert app.text_input(key="setting-output-name").value == "potholes"
    assert config_of(app).training.max_steps == 7


def test_the_dataset_that_was_opened_is_filled_in_until_it_is_changed_here() -> None:
    app = configure_page(**{DATASET_PATH: "/data/cracks"})
    assert config_of(app).data.path == "/data/cracks"
    app.text_input(key="setting-data-path").set_value("/data/other").run()
    app.run()
    assert config_of(app).data.path == "/data/other"
    app.session_state[DATASET_PATH] = "/data/third"
    app.run()
    assert config_of(app).data.path == "/data/third"


def test_numbers_and_switches_may_be_left_to_auto() -> None:
    app = configure_page()
    batch_size = app.number_input(key="setting-training-batch_size")
    assert (batch_size.value, batch_size.placeholder) == (None, "auto")
    switch = app.selectbox(key="setting-model-gradient_checkpointing")
    assert (switch.value, switch.options) == ("auto", ["auto", "on", "off"])
    batch_size.set_value(3)
    switch.set_value(True).run()
    config = config_of(app)
    assert (config.training.batch_size, config.model.gradient_checkpointing) == (3, True)
    app.number_input(key="setting-training-batch_size").set_value(None)
    app.selectbox(key="setting-model-gradient_checkpointing").set_value("auto").run()
    assert config_of(app) == demo_config().with_settings({"output.runs": config.output.runs})
    app.number_input(key="setting-training-batch_size").set_value(0).run()
    assert "a whole number from 1 to 256, or nothing for auto, got 0" in explanations(app)[0]


def test_the_image_size_is_a_choice_of_what_fits_the_base() -> None:
    app = configure_page()
    size = app.selectbox(key="setting-model-image_size")
    assert (size.value, size.placeholder, size.options) == (None, "168 (the model's default)", ["84", "168", "252"])
    app.text_input(key="setting-model-base").set_value("facebook/sam3").run()
    size = app.selectbox(key="setting-model-image_size")
    assert (size.placeholder, size.options) == ("1008 (the model's default)", ["336", "672", "1008", "1344"])
    assert any("small objects get lost" in caption.value for caption in app.caption)
    size.set_value(672).run()
    assert config_of(app).model.image_size == 672
    (said,) = [caption.value for caption in app.caption if "44% of the patches" in caption.value]
    assert "At 672 pixels" in said and "at 1008" in said
    size.set_value(None).run()
    app.text_input(key="setting-model-base").set_value("demo").run()
    app.selectbox(key="setting-model-image_size").set_value(84).run()
    app.text_input(key="setting-model-base").set_value("facebook/sam3").run()
    assert "84 (does not fit this base)" in app.selectbox(key="setting-model-image_size").options
    assert any("multiple of 336" in warning.value for warning in app.warning)


def test_without_access_the_published_model_is_counted_and_the_way_to_it_is_told() -> None:
    app = configure_page()
    assert not app.warning
    app.text_input(key="setting-model-base").set_value("facebook/sam3").run()
    assert any("numbers here are those of the published" in warning.value for warning in app.warning)
    assert any(metric.label == "Trainable parameters" and metric.value == "2.04 M" for metric in app.metric)


def marks(app: AppTest) -> list[str]:
    """Whose value each setting has that the recipe knows, in the form's order."""
    return [word for element in app.markdown for word in ("recipe", "yours") if f"badge[{word}]" in element.value]


def test_the_recipe_follows_the_base_model_and_leaves_what_the_user_has_set() -> None:
    app = configure_page()
    assert not marks(app) and not [button for button in app.button if button.key == "use-recipe"]
    app.number_input(key="setting-training-epochs").set_value(7).run()
    app.number_input(key="setting-lora-rank").set_value(16).run()  # the recipe's, but typed
    app.text_input(key="setting-model-base").set_value("facebook/sam3").run()
    recipe = recipe_for("facebook/sam3", 80)
    config = config_of(app)
    assert config.training.epochs == 7, "the user's"
    assert config == RunConfig().with_settings(
        recipe.values | {"training.epochs": 7, "model.base": "facebook/sam3", "output.runs": config.output.runs}
    )
    assert marks(app).count("yours") == 1 and marks(app).count("recipe") == len(recipe.advice) - 1
    assert any("Not yet confirmed on real weights" in caption.value for caption in app.caption)
    app.button(key="reset-training.epochs").click().run()
    assert config_of(app).training.epochs == 20 and "yours" not in marks(app)

    app.number_input(key="setting-training-learning_rate").set_value(3e-4).run()
    app.multiselect(key="setting-lora-components").set_value(["scoring"]).run()
    assert marks(app).count("yours") == 2
    app.text_input(key="setting-model-base").set_value("demo").run()
    config = config_of(app)
    assert (config.training.learning_rate, config.lora.components) == (3e-4, ["scoring"])
    assert (config.data.num_negatives, config.training.max_grad_norm) == (3, 1.0), "the demo's own again"
    app.button(key="use-recipe").click().run()
    assert config_of(app) == demo_config().with_settings({"output.runs": config.output.runs})
    assert not marks(app), "the demo's recipe is the defaults"


def test_the_recipe_follows_the_size_of_the_dataset(tmp_path: Path) -> None:
    few = write_dataset(tmp_path / "few", images=2)
    app = configure_page()
    app.text_input(key="setting-model-base").set_value("facebook/sam3").run()
    assert config_of(app).training.epochs == 20
    app.text_input(key="setting-data-path").set_value(str(few)).run()
    assert config_of(app).training.epochs == 40
    assert any("1 value filled in" in caption.value for caption in app.caption)
    app.text_input(key="setting-data-path").set_value(str(tmp_path / "nowhere")).run()
    assert config_of(app).training.epochs == 40, "a dataset that is not there says nothing about its size"


def test_settings_from_a_file_are_the_users_where_they_differ(runs: Path) -> None:
    wanted = RunConfig().with_settings({"model.base": "facebook/sam3", "training.epochs": 3})
    app = upload(configure_page(), "my.yaml", wanted.to_yaml().encode())
    assert config_of(app) == wanted, "nothing is overwritten"
    assert "yours" in marks(app)
    app.button(key="use-recipe").click().run()
    assert config_of(app) == wanted.with_settings(recipe_for("facebook/sam3", 80).values)


def test_adapting_the_text_encoder_shows_why_not() -> None:
    app = configure_page()
    assert not app.warning
    app.multiselect(key="setting-lora-components").set_value(["detr_decoder", "text_encoder"]).run()
    (warning,) = app.warning
    assert warning.value in AdapterConfig.model_fields["components"].description
    assert "forget" in warning.value


def test_yaml_goes_out_and_comes_back() -> None:
    app = configure_page()
    app.button_group(key="preset").set_value("maximum").run()
    app.number_input(key="setting-training-learning_rate").set_value(3e-4).run()
    wanted = config_of(app)
    shown = next(code.value for code in app.code if code.language == "yaml")
    assert RunConfig.from_dict(parse_yaml(shown, "the test")) == wanted

    fresh = upload(configure_page(), "my.yaml", wanted.to_yaml(comments=True).encode())
    assert config_of(fresh) == wanted
    assert fresh.number_input(key="setting-training-learning_rate").value == 3e-4
    assert "my.yaml" in fresh.success[0].value and not fresh.info


def test_names_of_earlier_versions_in_a_file_are_read_with_a_note() -> None:
    app = upload(configure_page(), "old.yaml", b"data: {phrase: crack}\ntraining: {accumulation: 4}\n")
    assert (config_of(app).data.default_phrase, config_of(app).training.gradient_accumulation_steps) == ("crack", 4)
    (note,) = app.info
    for name in ("data.phrase", "data.default_phrase", "training.gradient_accumulation_steps"):
        assert name in note.value.replace("\\", "")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"lora:\n  rank: 9999\n  nope: 1\n", "there is no setting 'lora.nope'"),
        (b"lora: [1, 2\n", "cannot be read"),
        (b"", "empty"),
        (b"\x89PNG\r\n\xff\xfe", "binary file"),
        (b"just words", "sections"),
    ],
)
def test_a_broken_file_is_refused_in_words_and_changes_nothing(content: bytes, words: str) -> None:
    app = configure_page()
    before = config_of(app)
    upload(app, "broken.yaml", content)
    (box,) = app.error
    assert words in box.value.replace("\\", "") and "broken.yaml" in box.value.replace("\\", "")
    assert config_of(app) == before


def test_a_base_model_that_cannot_be_had_is_told_and_the_form_goes_on() -> None:
    app = configure_page()
    app.text_input(key="setting-model-base").set_value("/no/such/folder").run()
    assert not app.exception and not app.error
    assert any("/no/such/folder" in warning.value.replace("\\", "") for warning in app.warning)
    assert config_of(app).model.base == "/no/such/folder"


def test_every_setting_says_what_it_may_be() -> None:
    for section in RunConfig.model_fields.values():
        for info in section.annotation.model_fields.values():
            assert expected(info)


def test_labels_read_like_words() -> None:
    labels = {name: label_of(name) for name in ("detr_decoder", "q_proj", "rslora", "num_negatives", "batch_size")}
    assert labels == {
        "detr_decoder": "DETR decoder",
        "q_proj": "q_proj",
        "rslora": "rsLoRA",
        "num_negatives": "Number of negatives",
        "batch_size": "Batch size",
    }


def test_a_loaded_list_of_names_stays_as_it_is() -> None:
    wanted = RunConfig().with_settings({"output.sample_images": ["a.jpg", "b.jpg"]})
    app = upload(configure_page(), "my.yaml", wanted.to_yaml().encode())
    assert config_of(app.run()).output.sample_images == ["a.jpg", "b.jpg"]
