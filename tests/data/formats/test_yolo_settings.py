"""Class names and splits are found where tools and people write them, and encodings other than UTF-8 are told."""

from __future__ import annotations

import pytest

from sam3_lora.data.dataset import open_dataset
from sam3_lora.errors import DataError
from tests.data.formats.helpers import YOLO_NAMES, yolo
from tests.factories import CATEGORIES, kinds

LINES = "".join(f"{name}\n" for name in CATEGORIES)
SPLITS = f"train: images/train\nval: images/val\n{YOLO_NAMES}"


@pytest.fixture
def folder(tmp_path):
    """A dataset of two splits without class names."""
    for split in ("train", "val"):
        yolo(tmp_path, tmp_path / "labels" / split, tmp_path / "images" / split)
    (tmp_path / "data.yaml").unlink()
    return tmp_path


def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("potholes.yaml", SPLITS),
        ("road.yml", f"path: ../datasets/road\n{SPLITS}"),
        ("config/data.yaml", f"path: ..\n{SPLITS}"),
        ("cfg/own.yaml", YOLO_NAMES),
        ("classes.txt", LINES),
        ("labels.txt", LINES),
        ("names.txt", "".join(f"{number}: {name}\n" for number, name in enumerate(CATEGORIES))),
        ("obj.names", LINES),
        ("labels/classes.txt", LINES),
        ("data.yaml", "names: obj.names\n"),
        ("data.yaml", "names: crack, pothole, joint\n"),
        ("data.yaml", "train: images\\train\nval: 'images\\val'\n" + YOLO_NAMES),
        ("data.yaml", 'train: "C:\\data\\images\\train"\nval: "images\\val"\n' + YOLO_NAMES),
        ("data.yaml", 'path: "D:\\new\\road"\ntrain: "images\\train"\n' + YOLO_NAMES),
    ],
)
def test_names_are_found(folder, name, text):
    write(folder / "obj.names", LINES)
    if name != "obj.names" and "obj.names" not in text:
        (folder / "obj.names").unlink()
    write(folder / name, text)
    dataset = open_dataset(folder)
    assert kinds(dataset) == [] and dataset.categories == CATEGORIES
    assert {split: len(one.images) for split, one in dataset.splits.items()} == {"train": 5, "val": 5}


def test_names_with_a_path_are_read_from_that_file_by_its_end(folder):
    write(folder / "lists" / "road.names", LINES)
    write(folder / "obj.data", "classes = 3\nnames = data/lists/road.names\n")
    assert open_dataset(folder).categories == CATEGORIES


@pytest.mark.parametrize("list_there", [True, False])
@pytest.mark.parametrize("subset", ["train", "Train"])
def test_cvat_yolo(tmp_path, subset, list_there):
    """What CVAT 1.1 exports: pictures and labels side by side, splits in the names of folders."""
    yolo(tmp_path, tmp_path / f"obj_{subset}_data", tmp_path / f"obj_{subset}_data")
    yolo(tmp_path, tmp_path / "obj_Validation_data", tmp_path / "obj_Validation_data")
    (tmp_path / "data.yaml").unlink()
    names = sorted(path.name for path in (tmp_path / f"obj_{subset}_data").glob("*.png"))
    text = "classes = 3\nnames = data/obj.names\nbackup = backup/\n"
    if list_there:
        write(tmp_path / "train.txt", "".join(f"data/obj_{subset}_data/{name}\n" for name in names))
        text += "train = data/train.txt\n"
    write(tmp_path / "obj.data", text)
    write(tmp_path / "obj.names", LINES)
    dataset = open_dataset(tmp_path)
    assert kinds(dataset) == [] and dataset.categories == CATEGORIES
    assert {split: one.num_objects for split, one in dataset.splits.items()} == {"train": 8, "valid": 8}


@pytest.mark.parametrize("val", ["val", "valid"])
def test_lists_of_images_divide_them_where_no_file_says_so(tmp_path, val):
    yolo(tmp_path, tmp_path / "labels", tmp_path / "images")
    (tmp_path / "data.yaml").unlink()
    write(tmp_path / "classes.txt", LINES)
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    for split, part in (("train", names[:3]), (val, names[3:])):
        write(tmp_path / f"{split}.txt", "".join(f"data/images/{name}\n" for name in part))
    write(tmp_path / "test.txt", "nothing of interest\n")
    dataset = open_dataset(tmp_path)
    assert {split: len(one.images) for split, one in dataset.splits.items()} == {"train": 3, "valid": len(names) - 3}
    assert dataset.categories == CATEGORIES


@pytest.mark.parametrize("key", ["names", "train", "path", "val"])
@pytest.mark.parametrize(
    "value", ['"' + "x/" * 3000 + '"', '"' + "x" * 300 + '.txt"', '"\\0"', '"\\ud800/a.txt"', "3", "[[1]]"]
)
def test_odd_values_are_no_paths(folder, key, value):
    write(folder / "data.yaml", f"{key}: {value}\n")
    write(folder / "classes.txt", LINES)
    if (key, value) == ("names", "[[1]]"):
        with pytest.raises(DataError, match="each class a name"):
            open_dataset(folder)
    else:
        assert list(open_dataset(folder).splits) == ["train", "val"]


def test_the_line_that_is_no_yaml_is_named(folder):
    write(folder / "data.yaml", "nc: 3\nnames:\n\t- crack\n")
    with pytest.raises(DataError, match="line 3"):
        open_dataset(folder)


def test_a_yaml_of_another_purpose_is_not_read(folder):
    write(folder / "args.yaml", "lr0: 0.01\nnames_of_runs: [a]\n")
    write(folder / "docker.yaml", "services: [")
    write(folder / "obj.names", LINES)
    assert open_dataset(folder).categories == CATEGORIES


def test_several_yaml_files_that_differ_are_told_and_one_can_be_opened(folder):
    write(folder / "a.yaml", YOLO_NAMES)
    write(folder / "b.yaml", "names: [x, y, z]\n")
    with pytest.raises(DataError, match=r"a\.yaml, b\.yaml"):
        open_dataset(folder)
    assert open_dataset(folder / "a.yaml").categories == CATEGORIES
    assert open_dataset(folder / "b.yaml").categories == ("x", "y", "z")


def test_a_yaml_in_a_folder_of_its_own_names_the_folder_to_open(folder):
    write(folder / "config" / "data.yaml", f"path: ..\n{SPLITS}")
    with pytest.raises(DataError) as error:
        open_dataset(folder / "config" / "data.yaml")
    assert error.value.fix == f"Open {folder}"


@pytest.mark.parametrize("encoding", ["gbk", "cp1252", "cp1251"])
@pytest.mark.parametrize(("name", "text"), [("data.yaml", "names: [{}, a, b]\n"), ("classes.txt", "{}\na\nb\n")])
def test_names_that_are_not_utf8_are_told(folder, encoding, name, text):
    word = {"gbk": "坑洞", "cp1252": "fissuré", "cp1251": "яма"}[encoding]
    write(folder / name, text.format(word), encoding)
    with pytest.raises(DataError, match="not saved as UTF-8"):
        open_dataset(folder)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize(("name", "text"), [("data.yaml", "names: [坑洞, a, b]\n"), ("classes.txt", "坑洞\na\nb\n")])
def test_a_byte_order_mark_says_how_names_are_saved(folder, encoding, name, text):
    write(folder / name, text, encoding)
    assert open_dataset(folder).categories == ("坑洞", "a", "b")


def test_a_comment_may_be_saved_in_any_way(folder):
    write(folder / "data.yaml", f"# 坑洞\n{YOLO_NAMES}", "gbk")
    assert open_dataset(folder).categories == CATEGORIES


@pytest.mark.parametrize("names", ["[on, 010, no]", "{0: on, 1: 010, 2: no}", "- on\n- 010\n- no".join(("\n", ""))])
def test_a_name_is_what_was_written(folder, names):
    write(folder / "data.yaml", f"names: {names}\n")
    assert open_dataset(folder).categories == ("on", "010", "no")


@pytest.mark.parametrize(
    "text",
    [
        "names: [a, b, c]\nnames: [a, b]",
        "a: &a [x]\nb: &b [*a, *a]\nnames: [*b, *b]",
        "names: [a, b, c]\n---\nnames: [a]",
        "names:\n\t- a",
        "names: !!python/object/apply:os.system [true]",
    ],
)
def test_yaml_that_is_unclear_or_grows_is_refused(folder, text):
    write(folder / "data.yaml", text)
    with pytest.raises(DataError, match="data.yaml"):
        open_dataset(folder)


@pytest.mark.parametrize("path", ["../..", "/etc", "../outside"])
def test_nothing_outside_the_folder_is_read(tmp_path, path):
    root = tmp_path / "set"
    yolo(root, root / "labels" / "train", root / "images" / "train")
    yolo(tmp_path / "outside", tmp_path / "outside" / "labels" / "val", tmp_path / "outside" / "images" / "val")
    write(root / "data.yaml", f"path: {path}\nval: images/val\nnames: ../outside/obj.names\n")
    write(tmp_path / "outside" / "obj.names", LINES)
    dataset = open_dataset(root)
    assert list(dataset.splits) == ["train"] and kinds(dataset) == ["class-without-name"]


@pytest.mark.parametrize("mark", [". ", ") ", ": ", ":", " = "])
def test_names_with_their_numbers_lose_them_but_from_1_they_are_unclear(folder, mark):
    write(folder / "classes.txt", "".join(f"{number}{mark}{name}\n" for number, name in enumerate(CATEGORIES)))
    assert open_dataset(folder).categories == CATEGORIES
    write(folder / "classes.txt", "".join(f"{number}{mark}{name}\n" for number, name in enumerate(CATEGORIES, 1)))
    with pytest.raises(DataError, match="numbered from 1"):
        open_dataset(folder)


@pytest.mark.parametrize(
    "names", [("1 euro", "2 euro", "3 x"), ("0.5 inch", "1.5 inch", "2.5 inch"), ("1.5 m", "2.5 m")]
)
def test_numbers_that_belong_to_names_stay(folder, names):
    write(folder / "classes.txt", "".join(f"{name}\n" for name in names))
    assert open_dataset(folder).categories == names


@pytest.mark.parametrize(("name", "words"), [("null", "nothing"), ("~", "nothing")])
def test_a_name_that_yaml_takes_for_something_else_is_told(folder, name, words):
    write(folder / "data.yaml", f"names: [crack, {name}]\n")
    with pytest.raises(DataError, match=words) as caught:
        open_dataset(folder)
    assert "quotes" in (caught.value.fix or "")


def test_labels_and_lists_in_utf_16_are_read(folder):
    write(folder / "classes.txt", LINES)
    listed = [f"./images/train/{path.name}" for path in sorted((folder / "images" / "train").iterdir())]
    before = open_dataset(folder).splits["train"].objects_per_category()
    for path in (folder / "labels" / "train").iterdir():
        write(path, path.read_text(), encoding="utf-16")
    write(folder / "train.txt", "\r\n".join(listed), encoding="utf-16")
    dataset = open_dataset(folder)
    assert dataset.splits["train"].objects_per_category() == before and kinds(dataset) == []


@pytest.mark.parametrize(("name", "encoding"), [("stra\xdfe", "cp1252"), ("\u88c2\u7f1d", "gbk")])
def test_a_list_of_paths_that_is_not_utf_8_is_told(folder, name, encoding):
    write(folder / "data.yaml", f"train: train.txt\n{YOLO_NAMES}")
    write(folder / "train.txt", f"images/train/{name}.png\n", encoding=encoding)
    with pytest.raises(DataError, match=f"paths in .*as {encoding}"):
        open_dataset(folder)


@pytest.mark.parametrize("start", ["", "autosplit_"])
@pytest.mark.parametrize("yaml", [YOLO_NAMES, ""])
def test_lists_of_images_are_followed_where_data_yaml_names_no_split(tmp_path, start, yaml):
    yolo(tmp_path, tmp_path / "labels", tmp_path / "images", yaml=YOLO_NAMES)
    if not yaml:
        (tmp_path / "data.yaml").unlink()
        write(tmp_path / "classes.txt", LINES)
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    for split, chosen in (("train", names[:3]), ("val", names[3:])):
        write(tmp_path / f"{start}{split}.txt", "".join(f"./images/{name}\n" for name in chosen))
    dataset = open_dataset(tmp_path)
    assert {split: len(one.images) for split, one in dataset.splits.items()} == {"train": 3, "valid": 2}
