"""sam3-lora label: a folder becomes COCO with scores, which the app opens as a dataset."""

import json
import shutil

from sam3_lora.config import ASSETS
from sam3_lora.data.dataset import open_dataset
from tests.cli.helpers import IMAGE, call

ADAPTER = ASSETS / "demo" / "adapter"


def test_a_folder_is_labelled_and_opened(tmp_path):
    folder, out = tmp_path / "photos", tmp_path / "labels"
    (folder / "more").mkdir(parents=True)
    shutil.copy(IMAGE, folder / "one.jpg")
    shutil.copy(IMAGE, folder / "more" / "two.jpg")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8")
    asked = "label", folder, "--prompt", "crack, pothole, joint, paint marking", "--adapter", ADAPTER, "--out", out
    done = call(*asked, "--json")
    report = json.loads(done.stdout)
    assert (report["images"], report["resumed"]) == (2, 0) and report["objects"] > 0
    assert [one["name"] for one in report["skipped"]] == ["broken.jpg"] and "broken.jpg" in done.stderr
    dataset = open_dataset(out, images=str(folder))
    (split,) = dataset.splits.values()
    assert split.num_objects == report["objects"] and not split.images.missing.any()
    assert "Wrote" in call(*asked).stdout and json.loads(call(*asked, "--json").stdout)["resumed"] == 2
    other = call(*asked, "--min-score", "0.3")
    assert (other.exit_code != 0 and "other" in str(other.exception)) or "another" in str(other.exception)


def test_mistakes_are_one_sentence(tmp_path):
    out = tmp_path / "out"
    for folder, to in ((tmp_path / "no", out), (tmp_path, out), (IMAGE.parent, IMAGE)):
        result = call("label", folder, "--out", to, "--prompt", "crack")
        assert result.exit_code != 0 and "\n" not in str(result.exception)
    result = call("label", IMAGE.parent, "--prompt", "crack", "--route", "--out", out)
    assert "adapter" in str(result.exception)
