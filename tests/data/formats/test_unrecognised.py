"""What cannot be opened raises one error that names the reason."""

from __future__ import annotations

import pytest

from sam3_lora.data.dataset import open_dataset
from sam3_lora.errors import DataError
from tests.data.formats.helpers import per_image, yolo
from tests.factories import SIZE_HW

HEIGHT, WIDTH = SIZE_HW


class TestSentences:
    def test_a_dataset_one_folder_deeper_is_pointed_at(self, tmp_path):
        yolo(
            tmp_path / "unpacked",
            tmp_path / "unpacked" / "labels" / "train",
            tmp_path / "unpacked" / "images" / "train",
        )
        with pytest.raises(DataError, match=r"deeper\. Open .*unpacked"):
            open_dataset(tmp_path)

    def test_a_data_yaml_without_labels_is_no_call_for_coco(self, tmp_path):
        (tmp_path / "data.yaml").write_text("names: [crack]\n")
        with pytest.raises(DataError, match="YOLO's labels"):
            open_dataset(tmp_path)

    @pytest.mark.parametrize("phrase", ["~", "  ... "])
    def test_a_phrase_needs_a_letter(self, tmp_path, phrase):
        per_image(tmp_path)
        with pytest.raises(DataError, match="phrase of words"):
            open_dataset(tmp_path, phrase=phrase)

    def test_a_folder_named_without_a_letter_asks_for_a_phrase(self, tmp_path):
        per_image(tmp_path / "~~")
        with pytest.raises(DataError, match="Give a phrase"):
            open_dataset(tmp_path / "~~")
        assert open_dataset(tmp_path / "~~", phrase="hole").categories == ("hole",)

    def test_files_of_single_images_are_known_among_others(self, tmp_path):
        per_image(tmp_path)
        for number in range(12):
            (tmp_path / f"a{number}.json").write_text('{"version": 1}')
        dataset = open_dataset(tmp_path, phrase="hole")
        assert dataset.findings[0].kind == "bad-label-file" and dataset.findings[0].count == 12

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ('{"images": [{"id": ' + "9" * 5000 + "}]}", "thousands of digits"),
            ('{"images": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ],
    )
    def test_what_python_cannot_read_is_told_apart(self, tmp_path, text, why):
        (tmp_path / "_annotations.coco.json").write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(DataError, match=why):
            open_dataset(tmp_path)
