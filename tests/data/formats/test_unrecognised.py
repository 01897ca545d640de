"""What cannot be opened raises one error that names the reason."""

from __future__ import annotations

from typing import Any

import pytest

from sam3_lora.data.dataset import open_dataset
from sam3_lora.errors import DataError
from tests.data.formats.helpers import per_image, picture, write_json, yolo
from tests.factories import SIZE_HW, coco, kinds, write_dataset, write_split

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

    @pytest.mark.parametrize("place", ["archive/set", "archive/set (1)/v2"])
    def test_so_is_one_some_folders_deeper(self, tmp_path, place):
        root = tmp_path / "zip"
        write_dataset(root / "splits" / place)
        (root / "whole" / place).mkdir(parents=True)
        write_split(root / "whole" / place / "images", coco())
        (root / "whole" / place / "images" / "_annotations.coco.json").rename(root / "whole" / place / "labels.json")
        for kind in ("splits", "whole"):
            with pytest.raises(DataError, match="deeper") as caught:
                open_dataset(root / kind)
            assert kinds(open_dataset((caught.value.fix or "").removeprefix("Open "))) == []

    def test_an_archive_of_windows_unpacked_without_folders_is_the_cause(self, tmp_path):
        for split in ("train", "valid"):
            write_json(tmp_path / f"{split}\\_annotations.coco.json", coco())
            picture(tmp_path / f"{split}\\a.jpg")
        with pytest.raises(DataError, match="backslashes"):
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


def _record(**values: Any) -> dict[str, Any]:
    return {"image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4], **values}


IMAGES = [{"id": 0, "file_name": "a.jpg", "width": 9, "height": 9}]
FOREIGN = {
    "instances.json": ({"videos": [{"id": 1, "file_names": ["v0/0.jpg"]}], "annotations": [{"video_id": 1}]}, "videos"),
    "train.json": ({"info": {}, "videos": [], "categories": [], "annotations": []}, "videos"),
    "a-asset.json": ({"asset": {"name": "a.jpg"}, "regions": [], "version": "2.1.0"}, "VoTT"),
    "p-export.json": ({"name": "p", "tags": [], "assets": {"1": {"asset": {}, "regions": []}}}, "VoTT"),
    "a.jpg.json": ({"metadata": {"name": "a.jpg"}, "instances": [{"className": "x"}]}, "SuperAnnotate"),
    "mmdet.json": ({"metainfo": {}, "data_list": [{"img_path": "a.jpg", "instances": []}]}, "MMDetection"),
    "middle.json": ([{"filename": "a.jpg", "width": 8, "height": 8, "ann": {}}], "MMDetection"),
    "dicts.json": ([{"file_name": "a.jpg", "annotations": []}], "Detectron2"),
    "encord.json": ([{"label_hash": "x", "data_units": {}}], "Encord"),
    "tasks.json": ([{"task_id": "x", "response": {"annotations": []}}], "Scale AI"),
    "predictions.json": ([_record(score=0.9)], "detections of a model"),
    "bbox_results.json": ([_record(score=0.9) for _ in range(3000)], "detections of a model"),
    "segm.json": ([{"image_id": 0, "segmentation": {"counts": "x", "size": [1, 1]}, "score": 1}], "detections"),
    "boxes.json": ([_record(id=1)], "without their images"),
    "captions_val.json": ({"images": IMAGES, "annotations": [{"image_id": 0, "caption": "x"}]}, "captions"),
    "panoptic.json": ({"images": IMAGES, "annotations": [{"image_id": 0, "segments_info": []}]}, "panoptic"),
    "points.json": (
        {"images": IMAGES, "annotations": [{"image_id": 0, "category_id": 1, "keypoints": [1]}]},
        "keypoints without boxes",
    ),
    "a.json": ({"version": "5", "flags": {}, "shapes": [], "imageData": "x" * 200_000}, "LabelMe"),
    "project.json": ([{"id": 1, "data": {"image": "a.jpg"}, "annotations": []}], "Label Studio"),
    "project-min.json": ([{"image": "a.jpg", "id": 1, "annotation_id": 1, "lead_time": 2.0}], "Label Studio"),
    "via_project.json": ({"_via_settings": {}, "_via_img_metadata": {}}, "VIA"),
    "via_region_data.json": ({"a.jpg99": {"filename": "a.jpg", "regions": []}}, "VIA"),
    "ds/ann/a.jpg.json": ({"description": "", "tags": [], "size": {}, "objects": []}, "Supervisely"),
    "_annotations.createml.json": ([{"image": "a.jpg", "annotations": []}], "CreateML"),
    "annotations/default.json": ({"info": {}, "categories": {}, "items": []}, "Datumaro"),
    "v7.json": ({"version": "2.0", "item": {"name": "a.jpg"}, "annotations": []}, "Darwin"),
    "uvo.json": ({"sequences": [{"id": 1}], "annotations": []}, "videos"),
    "sav_1_manual.json": ({"video_id": "sav_1", "masklet": []}, "SA-V"),
    "bdd.json": ([{"name": "a.jpg", "labels": []}], "BDD100K"),
}
FOREIGN_TEXT = {
    "Annotations/a.xml": ("<annotation><filename>a.jpg</filename></annotation>", "Pascal VOC"),
    "annotations.xml": ('<?xml version="1.0"?>\n<annotations><version>1.1</version></annotations>', "CVAT"),
    "train-annotations-bbox.csv": ("ImageID,Source,LabelName,Confidence,XMin,XMax", "Open Images"),
    "boxes.csv": ("filename,width,height,class", "CSV"),
    "output.manifest": ('{"source-ref": "s3://b/a.jpg"}', "SageMaker"),
    "train.tfrecord": ("\0", "TFRecord"),
    "train.tfrecord-00000-of-00010": ("\0", "TFRecord"),
    "MOT17-02/gt/gt.txt": ("1,1,912,484,97,109,0,7,1\n", "MOT Challenge"),
    "via_export.csv": ("filename,file_size,region_shape_attributes", "VIA"),
    "road.mp4": ("\0", "video"),
    "annotations_trainval2017.zip": ("PK", "found archives"),
    "MOT17-02/seqinfo.ini": ("[Sequence]\nname=MOT17-02\nseqLength=600\n", "MOT Challenge"),
}


class TestForeignFormats:
    @pytest.mark.parametrize("name", FOREIGN)
    def test_a_folder_of_a_format_that_is_not_read_is_named(self, tmp_path, name):
        content, words = FOREIGN[name]
        write_json(tmp_path / name, content)
        picture(tmp_path / "images" / "a.jpg")
        with pytest.raises(DataError, match=words) as caught:
            open_dataset(tmp_path)
        assert caught.value.fix

    @pytest.mark.parametrize("name", FOREIGN)
    def test_so_is_a_file_that_is_opened(self, tmp_path, name):
        content, words = FOREIGN[name]
        write_json(tmp_path / name, content)
        with pytest.raises(DataError, match=words):
            open_dataset(tmp_path / name)

    @pytest.mark.parametrize("name", FOREIGN_TEXT)
    def test_formats_without_json(self, tmp_path, name):
        content, words = FOREIGN_TEXT[name]
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match=words):
            open_dataset(tmp_path)

    @pytest.mark.parametrize("name", FOREIGN)
    def test_beside_coco_they_do_not_matter(self, tmp_path, name):
        write_dataset(tmp_path)
        write_json(tmp_path / name, FOREIGN[name][0])
        assert kinds(open_dataset(tmp_path)) == []
        write_json(tmp_path / "files" / "labels.json", coco())
        write_json(tmp_path / "files" / name, FOREIGN[name][0])
        for entry in coco()["images"]:
            picture(tmp_path / "files" / "images" / entry["file_name"])
        assert kinds(open_dataset(tmp_path / "files")) == []

    def test_images_of_videos_that_coco_lists_are_read(self, tmp_path):
        data = {"videos": [{"id": 1, "name": "v"}], **coco()}
        write_split(tmp_path, data)
        (tmp_path / "_annotations.coco.json").rename(tmp_path / "instances.json")
        assert kinds(open_dataset(tmp_path)) == []

    def test_metadata_is_not_blamed_for_missing_annotations(self, tmp_path):
        write_json(tmp_path / "dataset-metadata.json", {"title": "x", "id": "me/x", "licenses": []})
        picture(tmp_path / "images" / "a.jpg")
        with pytest.raises(DataError, match="Expected train/") as caught:
            open_dataset(tmp_path)
        assert "Export" in (caught.value.fix or "")
