"""JSON files in other encodings and with small mistakes are read, and it is said."""

from __future__ import annotations

import json

import pytest

from sam3_lora.data.dataset import Dataset, open_dataset
from sam3_lora.errors import DataError
from tests.factories import coco, kinds, write_split

NAME = "Straßenschäden"


def opened(folder, content: bytes) -> Dataset:
    write_split(folder / "train", coco())
    (folder / "train" / "_annotations.coco.json").write_bytes(content)
    return open_dataset(folder)


def text(name: str = NAME) -> str:
    data = coco()
    data["categories"][0]["name"] = name
    return json.dumps(data, ensure_ascii=False)


@pytest.mark.parametrize(
    ("content", "severity", "encoding"),
    [
        (text().encode("utf-8-sig"), None, None),
        (text().encode("utf-16"), "info", "UTF-16"),
        (b"\xfe\xff" + text().encode("utf-16-be"), "info", "UTF-16"),
        (text().encode("utf-16-le"), "info", "UTF-16-LE"),
        (text().encode("utf-32"), "info", "UTF-32"),
        (text().encode("latin-1"), "warning", "Windows-1252"),
        (text().encode("cp1252"), "warning", "Windows-1252"),
    ],
)
def test_encodings(tmp_path, content, severity, encoding):
    dataset = opened(tmp_path, content)
    assert dataset.split("train").num_objects == 8 and NAME in dataset.categories
    found = [(one.kind, one.severity, one.facts["encoding"]) for one in dataset.findings]
    assert found == ([("text-not-utf-8", severity, encoding)] if severity else [])


@pytest.mark.parametrize("encoding", ["gbk", "gb18030"])
def test_chinese(tmp_path, encoding):
    dataset = opened(tmp_path, text("坑洞").encode(encoding))
    assert "坑洞" in dataset.categories
    assert [(one.severity, one.facts["encoding"]) for one in dataset.findings] == [("warning", "GB 18030")]


@pytest.mark.parametrize(
    ("spoil", "liberties"),
    [
        (lambda json_text: json_text.replace("}]", "},]"), 1),
        (lambda json_text: json_text.replace("}", "\n,\t}"), 1),
        (lambda json_text: "// exported\n" + json_text.replace("[{", "[/* , ] */{"), 1),
        (lambda json_text: json_text.replace('"iscrowd"', '"area": NaN, "iscrowd"'), 1),
        (lambda json_text: json_text.replace('"iscrowd"', '"area": -Infinity, "iscrowd"'), 1),
        (lambda json_text: "/**/" + json_text.replace('"iscrowd"', '"area": NaN, "iscrowd"').replace("}]", "}, ]"), 3),
    ],
)
def test_liberties(tmp_path, spoil, liberties):
    name = 'a ,] // and /* of " crack'
    dataset = opened(tmp_path, spoil(json.dumps(json.loads(text()) | {"note": name})).encode())
    assert dataset.split("train").num_objects == 8
    assert [(one.kind, one.severity) for one in dataset.findings] == [("json-not-strict", "info")]
    assert len(dataset.findings[0].facts["liberties"].split(", ")) == liberties


@pytest.mark.parametrize("spoil", [lambda json_text: json_text[:-40], repr, lambda json_text: json_text + ","])
def test_what_is_no_json_stays_an_error(tmp_path, spoil):
    with pytest.raises(DataError, match="not JSON|a text"):
        opened(tmp_path, spoil(text()).encode())


def test_strings_keep_what_looks_like_a_mistake(tmp_path):
    content = text("crack ,] // x").replace("}]", "},]")
    assert "crack ,] // x" in opened(tmp_path, content.encode()).categories


def test_a_sound_file_says_nothing(tmp_path):
    assert kinds(opened(tmp_path, text().encode())) == []
