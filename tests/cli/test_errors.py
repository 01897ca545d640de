"""A user's mistake ends with one sentence, its fix and exit code 2, never with a traceback."""

import subprocess
import sys

import pytest

from sam3_lora.cli import app as cli_app
from sam3_lora.config import ASSETS
from sam3_lora.errors import Sam3LoraError
from tests.cli.helpers import IMAGE, call

MISTAKES = {
    "dataset missing": ["inspect", "nowhere"],
    "dataset is a file": ["inspect", __file__],
    "config missing": ["train", "nowhere.yaml"],
    "config of another kind": ["train", __file__],
    "neither config nor run": ["train"],
    "run with too long a name": ["train", "--resume", "x" * 300],
    "adapter with too long a name": ["predict", IMAGE, "--prompt", "x", "--adapter", "x" * 300],
    "run missing": ["train", "--resume", "nowhere"],
    "image missing": ["predict", "nowhere.jpg", "--prompt", "x"],
    "image of another kind": ["predict", __file__, "--prompt", "x"],
    "blank phrase": ["predict", IMAGE, "--prompt", " "],
    "base missing": ["predict", IMAGE, "--prompt", "x", "--base", "./nowhere"],
    "base of another kind": ["predict", IMAGE, "--prompt", "x", "--base", str(ASSETS)],
    "adapter missing": ["predict", IMAGE, "--prompt", "x", "--adapter", "nowhere"],
    "adapter of another kind": ["predict", IMAGE, "--prompt", "x", "--adapter", str(ASSETS)],
    "split missing": ["evaluate", "demo", "--split", "nowhere"],
    "report of another kind": ["evaluate", "demo", "--out", "report.txt"],
    "device of another kind": ["predict", IMAGE, "--prompt", "x", "--device", "abacus"],
    "preset unknown": ["config", "--preset", "huge"],
}


@pytest.mark.parametrize("arguments", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_in_one_sentence_with_its_fix(arguments):
    result = call(*arguments)
    assert isinstance(result.exception, Sam3LoraError)
    assert "\n" not in str(result.exception)
    assert result.exception.fix


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sam3_lora", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ASSETS.parent)


def test_a_mistake_ends_with_exit_code_2_and_no_traceback():
    result = run("inspect", "nowhere", "--json")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1


def test_old_names_of_settings_are_read_with_one_note_each(tmp_path):
    file = tmp_path / "old.yaml"
    file.write_text("data: {phrase: crack, images: /photos}\n")
    result = run("train", file, "--set=training.accumulation=0", "--set=data.phrase=")
    assert result.returncode == 2 and result.stdout == ""
    of_file, of_command, error = result.stderr.splitlines()
    assert "data.phrase is now data.default_phrase" in of_file and "data.images is now data.image_dir" in of_file
    assert "training.accumulation is now training.gradient_accumulation_steps" in of_command
    assert "data.phrase" not in of_command
    assert error.startswith("Error: training.gradient_accumulation_steps: expected 1 or more, got 0")


def test_too_little_memory_ends_with_one_sentence(monkeypatch, capsys):
    def fail(error):
        def call_app():
            raise error

        monkeypatch.setattr(cli_app, "app", call_app)
        cli_app.main()

    with pytest.raises(SystemExit) as ended:
        fail(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes\nmore"))
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("Error: Memory ran out: ")
    with pytest.raises(RuntimeError, match="else"):
        fail(RuntimeError("something else"))
