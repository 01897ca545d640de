"""sam3-lora concept: a word is taught from a dataset or from boxes, listed, and used to predict."""

import json

from tests.cli.helpers import IMAGE, call


def test_a_word_is_taught_and_used(tmp_path):
    file = tmp_path / "hole.safetensors"
    taught = call("concept", "teach", "hole", "--dataset", "demo", "--category", "pothole", "--images", 2, "--steps", 5,
                  "--out", file, "--json")  # fmt: skip
    card = json.loads(taught.stdout)
    assert (card["name"], card["images"], card["negatives"]) == ("hole", 2, 2) and file.is_file()
    assert "<hole>" in call("concept", "list", tmp_path).stdout
    found = call(
        "predict", IMAGE, "--concept", file, "--prompt", "<hole>", "--prompt", "crack", "--threshold", "0.01", "--json"
    )
    assert set(json.loads(found.stdout)["phrases"]) == {"<hole>", "crack"}
    boxes = call(
        "concept", "teach", "x", "--like", f"{IMAGE}:10,10,60,60", "--steps", 3, "--out", tmp_path / "x.safetensors"
    )
    assert "--without" in boxes.stderr and "1 image" in boxes.stdout


def test_mistakes_are_one_sentence(tmp_path):
    for options in (
        ("teach", "x"),
        ("teach", "x", "--dataset", "demo", "--like", "a.jpg:1,2,3,4"),
        ("teach", "<x>", "--dataset", "demo"),
        ("teach", "x", "--dataset", "demo"),
        ("teach", "x", "--like", f"{IMAGE}:9000,1,3,4"),
        ("teach", "x", "--like", f"{tmp_path}/gone.jpg:1,1,3,4"),
        ("list", tmp_path / "gone.safetensors"),
    ):
        result = call("concept", *options)
        assert result.exit_code != 0 and "\n" not in str(result.exception), options
    assert call("predict", IMAGE, "--prompt", "<gone>").exit_code != 0
