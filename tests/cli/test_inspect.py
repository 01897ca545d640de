"""sam3-lora inspect: what it prints for people and for programs."""

import json

from tests.cli.helpers import call
from tests.factories import coco, write_dataset, write_split


def test_inspect_counts_and_finds(tmp_path):
    dataset = write_dataset(tmp_path, images=3, objects=2, empty_images=1)
    report = json.loads(call("inspect", dataset, "--json").stdout)
    assert report["splits"]["train"]["images"] == 4
    assert report["splits"]["train"]["objects"] == 6 == sum(report["splits"]["train"]["categories"].values())
    assert "train: 4 images, 6 objects" in call("inspect", dataset).stdout
    (tmp_path / "valid" / "_annotations.coco.json").write_text("{")
    findings = json.loads(call("inspect", dataset, "--json").stdout)["findings"]
    assert {"kind", "severity", "count", "message", "fix"} == set(findings[0])
    assert findings[0]["severity"] == "error"


def test_control_characters_in_names_do_not_reach_the_terminal(tmp_path):
    data = coco()
    data["categories"][0]["name"] = "crack\x1b[31m\x07\u202e"
    data["images"][0]["file_name"] = "gone\x1b]0;title.png"
    write_split(tmp_path / "train", data)
    (tmp_path / "train" / "gone\x1b]0;title.png").unlink()
    printed = call("inspect", tmp_path).stdout
    assert (
        "\x1b" not in printed
        and "\x07" not in printed
        and "\u202e" not in printed
        and r"crack\x1b[31m" in printed
        and "gone" in printed
    )
