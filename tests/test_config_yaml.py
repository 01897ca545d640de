"""YAML is read as people wrote it, or refused with what is wrong; what is written is read back, by YAML 1.1 too."""

from __future__ import annotations

import time

import pytest
import yaml

from sam3_lora.config.yaml_text import MAX_BYTES, YamlError, dump, load
from sam3_lora.errors import ConfigError
from tests.cli.helpers import call
from tests.test_config import from_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:30", "1:30"),
        ("010", 10),
        ("0x10", 16),
        ("0o10", 8),
        *((word, word) for word in ("yes", "no", "on", "off", "y", "2026-01-01", "1_000", "<<", "=", "1.2.3")),
        ("True", True),
        ("1e-4", 1e-4),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.inf", float("-inf")),
        ("~", None),
        ("", None),
        ("'010'", "010"),
        ("[1, a]", [1, "a"]),
    ],
)
def test_a_value_is_what_was_written(text, value):
    found = load(f"\ufeffkey: {text}")["key"]
    assert found == value and type(found) is type(value)


def test_as_text_all_values_stay_as_they_were_written():
    assert load("[010, on, 1.50, 1e3, true, 0x1]", as_text=True) == ["010", "on", "1.50", "1e3", "true", "0x1"]


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (LAUGHS, 1),
        ("a: &a {x: 1}\nb: {<<: *a}", 1),
        ("a: &a [*a]", 1),
        ("a: 1\nb: {c: 1, c: 2}", 2),
        ("a: 1\n---\na: 2", 2),
        ("a:\n\tb: 1", 2),
        ("[" * 100_000, 1),
        ("{a: " * 100_000, 1),
        ("? " * 100_000, 1),
        ("a: " + "9" * 5000, 0),
        ("a: \0", 0),
        ("a: \ud800", 0),
        ("a: !!timestamp x", 1),
        ("a: !!python/object/apply:os.system [x]", 1),
        ("a: !!int 1:30", 0),
        ("[a]: b", 1),
        ("a" * (MAX_BYTES + 1), 0),
    ],
)
def test_what_is_unclear_or_grows_is_refused_at_once(text, line):
    began = time.process_time()
    with pytest.raises(YamlError) as error:
        load(text)
    assert time.process_time() - began < 5
    assert error.value.line == line and len(str(error.value)) < 200


def test_an_alias_of_a_single_value_is_read():
    assert load("a: &a 3\nb: *a") == {"a": 3, "b": 3}


@pytest.mark.parametrize(
    "value",
    ["1e-4", "08", "010", "0o17", "1:30", "on", "2026-01-01", "<<", "~", "", ".5", "5.", "a: b", "é", 1e-5, 3, True]
    + [None, float("inf"), ["x", "1e5"], {"on": "no"}],
)
def test_what_is_written_is_read_back_by_both_versions(value):
    text = f"key: {dump(value)}"
    assert load(text) == yaml.safe_load(text) == {"key": value}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("training: {epochs: 1:30}", "1:30"),
        ("training: {epochs: 2026-01-01}", "2026-01-01"),
        ("output: {name: 010}", "expected text"),
        ("training: {epochs: 1, epochs: 2}", "given twice"),
    ],
)
def test_a_setting_that_is_not_meant_so_is_told(text, words):
    with pytest.raises(ConfigError, match=words):
        from_yaml(text)


def test_settings_are_what_was_written():
    config = from_yaml(
        "data: {default_phrase: on, category_phrases: {no: off}}\ntraining: {epochs: 010, patience: 0x1}"
    )
    assert (config.data.default_phrase, config.data.category_phrases) == ("on", {"no": "off"})
    assert (config.training.epochs, config.training.patience) == (10, 1)


@pytest.mark.parametrize("value", ["1:30", "[&a [1], *a]", "{a: 1, a: 2}", "!!python/name:os.system x", "9" * 5000])
def test_the_command_line_refuses_alike(value, tmp_path):
    (tmp_path / "run.yaml").write_text("data: {path: demo}\n")
    result = call("train", tmp_path / "run.yaml", "--check", "--set", f"training.epochs={value}")
    assert isinstance(result.exception, ConfigError) and len(str(result.exception)) < 300
