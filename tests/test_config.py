"""Settings: defaults, YAML in and out, and what a wrong one is told."""

import tomllib
from pathlib import Path

import pytest

from sam3_lora.config import RunConfig
from sam3_lora.config.fields import Auto, BatchSize, WorkerCount, number_rules
from sam3_lora.config.yaml_text import RENAMED, parse_yaml, renamed_settings
from sam3_lora.errors import ConfigError
from sam3_lora.recipes import PRESETS, preset


def from_yaml(text):
    return RunConfig.from_dict(parse_yaml(text, "the test"))


def test_yaml_gives_back_the_same_settings():
    for name in PRESETS:
        config = preset(name)
        assert from_yaml(config.to_yaml(comments=True)) == config
        assert from_yaml(config.to_yaml(comments=False)) == config


def test_every_setting_is_explained_and_bounded():
    for section_name, section in RunConfig():
        for name, field in type(section).model_fields.items():
            assert field.description and field.description.endswith("."), f"{section_name}.{name}"
            if field.annotation in (int, float, BatchSize | Auto, WorkerCount | Auto):
                bounds = {type(item).__name__ for item in number_rules(field)}
                assert bounds & {"Ge", "Gt"} and bounds & {"Le", "Lt"}, f"{section_name}.{name}"


def test_all_problems_are_told_at_once():
    wrong = {"training": {"epochs": 0, "learning_rate": "fast", "speed": 1}, "lora": {"components": ["brain"]}}
    with pytest.raises(ConfigError) as raised:
        RunConfig.from_dict(wrong)
    for part in ("training.epochs", "training.learning_rate", "training.speed", "lora.components"):
        assert part in str(raised.value)


@pytest.mark.parametrize(
    "text", ["", "just words", "- a\n- b", "training: [", "training: 5", "\x00", "a: *b", "[" * 5000]
)
def test_what_is_no_configuration_is_told_in_one_sentence(text):
    with pytest.raises(ConfigError) as raised:
        from_yaml(text)
    assert raised.value.fix
    assert "\n" not in str(raised.value)


def test_files_that_cannot_be_read(tmp_path):
    binary = tmp_path / "model.yaml"
    binary.write_bytes(bytes(range(256)))
    for path in (tmp_path / "none.yaml", tmp_path, binary):
        with pytest.raises(ConfigError):
            RunConfig.load(path)


def test_dotted_settings_replace_one_value_and_leave_the_rest():
    config = RunConfig().with_settings({"training.epochs": 2, "lora.rank": 4})
    assert (config.training.epochs, config.lora.rank) == (2, 4)
    assert config.with_settings({"training.epochs": 20, "lora.rank": 16}) == RunConfig()
    with pytest.raises(ConfigError, match="training.epoch"):
        config.with_settings({"training.epoch": 2})


def test_scientific_notation_is_a_number():
    assert from_yaml("training: {learning_rate: 1e-4}").training.learning_rate == 1e-4


def test_a_name_with_other_characters_is_told_which_may_be_used():
    with pytest.raises(ConfigError, match="letters a to z, digits"):
        RunConfig().with_settings({"output.name": "../evil"})


def test_own_phrases_go_through_yaml_and_must_be_words():
    own = {"class_1": "pothole", "Riß: tief": 'crack, "deep"'}
    config = RunConfig().with_settings({"data.category_phrases": own})
    assert from_yaml(config.to_yaml(comments=True)).data.category_phrases == own
    with pytest.raises(ConfigError, match=r"data\.category_phrases"):
        RunConfig().with_settings({"data.category_phrases": {"crack": " - "}})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("training: {epoch: 3}", r"did you mean 'training\.epochs'\?"),
        ("epochs: 3", r"did you mean 'training\.epochs'\?"),
        ("training: {epochs: true, max_steps: true}", "epochs: expected a number, got true"),
        ("training:\n  epochs: 1\n  epochs: 2", r"'epochs' is given twice \(line 3\)"),
        ("training: 5", "training: expected a section"),
        ("data: {path: 2026}", "expected text, got 2026; put it into quotation marks"),
        ("lora: {components: scoring}", r"expected a list, got 'scoring'; write \[scoring\]"),
        ("lora: {components: []}", "components: expected at least one"),
        ("output: {name: a/b}", "name: expected letters a to z, digits, spaces, dots and dashes, got 'a/b'"),
        ('output: {runs: "a\\0b"}', "runs: expected text without the NUL character"),
        (f"output: {{runs: {'a' * 5000}}}", "runs: expected at most 1000 characters, got 'a"),
        ("training: {learning_rate: 2}", r"learning_rate: expected 1 or less, got 2\."),
        ("training: {batch_size: 0}", "batch_size: expected 1 or more, or auto, got 0"),
        ("training: {batch_size: true}", "batch_size: expected a number, got true"),
        ("training: {batch_size: many}", "batch_size: expected a whole number, or auto, got 'many'"),
        ("model: {gradient_checkpointing: 7}", "expected true or false, or auto, got 7"),
        ("training: {precision: fp8}", "precision: expected 'auto', 'fp32', 'bf16' or 'fp16', got 'fp8'"),
    ],
)
def test_what_is_wrong_is_told_in_plain_words(text, words):
    with pytest.raises(ConfigError, match=words) as raised:
        from_yaml(text)
    assert len(str(raised.value)) < 200


def test_of_very_many_problems_the_first_are_told():
    with pytest.raises(ConfigError, match="and 2,995 more") as raised:
        RunConfig.from_dict({f"k{number}": 1 for number in range(3000)})
    assert len(str(raised.value)) < 400


def test_the_folder_of_the_runs_may_begin_at_home():
    config = RunConfig().with_settings({"output.runs": "~/x"})
    assert config.output.runs_folder == Path.home() / "x"


OLD = {
    "data": {"images": "a", "phrase": "b", "phrases": {"c": "d"}, "flip": "both"},
    "training": {"accumulation": 4},
}


def test_names_of_earlier_versions_are_read():
    config = RunConfig.from_dict(OLD)
    assert (config.data.image_dir, config.data.default_phrase, config.data.category_phrases) == ("a", "b", {"c": "d"})
    assert config.training.gradient_accumulation_steps == 4
    assert config.augmentation.flip == "both"
    settings = {f"{section}.{name}": value for section, values in OLD.items() for name, value in values.items()}
    assert config == RunConfig().with_settings(settings)


def test_names_of_earlier_versions_are_told_apart():
    assert renamed_settings(OLD) == RENAMED
    assert renamed_settings(RunConfig().model_dump()) == {}
    assert renamed_settings({"data": 5}) == {}
    for new in RENAMED.values():
        section, field = new.split(".")
        assert field in RunConfig().model_dump()[section]


def test_an_old_name_beside_the_new_one_is_an_error():
    with pytest.raises(ConfigError, match=r"no setting 'data\.phrase' \(did you mean 'data\.default_phrase'\?\)"):
        RunConfig.from_dict({"data": {"phrase": "a", "default_phrase": "b"}})


def test_numbers_and_switches_may_be_auto_and_numbers_of_old_files_stay():
    old = "data: {num_workers: 4}\nmodel: {gradient_checkpointing: true}\ntraining: {batch_size: 1, precision: fp32}"
    config = from_yaml(old)
    assert (config.data.num_workers, config.model.gradient_checkpointing) == (4, True)
    assert (config.training.batch_size, config.training.precision) == (1, "fp32")
    back = {"data.num_workers": "auto", "model.gradient_checkpointing": "auto", "training.batch_size": "auto"}
    assert config.with_settings(back | {"training.precision": "auto"}) == RunConfig()


def test_an_empty_limit_is_none():
    assert RunConfig().with_settings({"training.max_steps": ""}).training.max_steps is None


def test_pyproject_readme_and_the_tools_name_the_same_python():
    root = Path(__file__).parent.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())
    oldest = project["project"]["requires-python"].removeprefix(">=")
    named = [line.rpartition(" :: ")[2] for line in project["project"]["classifiers"] if ":: Python :: 3." in line]
    assert named[0] == oldest == project["tool"]["mypy"]["python_version"]
    assert project["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    assert "Python " + ", ".join(named[:-1]) + f" or {named[-1]}" in (root / "README.md").read_text()
