"""The words of findings that only some formats have, and those of YOLO that differ from COCO's; see messages.py."""

from __future__ import annotations

ERRORS: dict[str, tuple[str, str]] = {
    "image-heic": (
        "{images} {are} HEIC, as iPhones take them, which only the package pillow-heif opens",
        "Run pip install pillow-heif and open the dataset again, or convert {them} to JPEG",
    ),
    "link-outside-dataset": (
        "{images} {are} behind a link that leads outside the dataset's folder; {they} {are} not opened",
        "Copy the files into the dataset's folder, or set the folder that holds the images",
    ),
    "bad-label-line": (
        "{annotations} cannot be read, because the line is neither a box (class x y width height) nor a polygon "
        "(class x y x y x y ...)",
        "Correct the lines, or export the dataset again: the class is a number, and the others are fractions of "
        "the image's width and height, with a decimal point and separated by spaces",
    ),
    "bad-label-file": (
        "The annotation files of {images} cannot be read; {their} objects are unknown, so {they} {are} left out",
        "Export the dataset again, or delete these images",
    ),
    "labels-not-paired": (
        "{images} {have} no label file, but a label file with a similar name has no image: it is unknown which objects "
        "are in {them}, so {they} {are} left out",
        "Name each label file like its image, or delete the label files that belong to no image",
    ),
    "labels-in-other-format": (
        "{images} {have} no label file of YOLO but an annotation file in another format, which is not read: {they} "
        "{are} left out",
        "Convert the annotation files to YOLO (in LabelImg: open the image and save it as YOLO), or delete them",
    ),
    "label-line-odd": (
        "{annotations} cannot be read, because {numbers} numbers follow the class: 4 are a box and an even number from "
        "6 is a polygon, so the last may be a confidence, a track's number or an angle",
        "Export without it (in Ultralytics: save_conf=False); for rotated boxes export polygons, or OBB with four "
        "corners",
    ),
    "labels-in-pixels": (
        "{annotations} {have} numbers far above 1, as if in pixels; YOLO expects fractions of the image's width and "
        "height, so {they} {are} left out",
        "Divide x and width by the image's width, y and height by its height, or export again as YOLO",
    ),
}
WARNINGS: dict[str, tuple[str, str]] = {
    "text-input-missing": (
        "{images} {have} no phrase in text_input, although others in the file have one: {their} annotations have the "
        "names of 'categories' as phrases",
        "Give each entry of 'images' its phrase in text_input",
    ),
    "pair-repeated": (
        "{images} {repeat} a phrase that an earlier entry of the same picture has: the annotations of both are used",
        "Delete one of the entries, or merge their annotations",
    ),
    "labels-by-similar-name": (
        "{images} {have} a label file whose name is not quite the same (letter case, folder, characters in another "
        "code, or a tool's prefix); it is used, since it fits no other image",
        "Nothing, if boxes and masks fit; otherwise name the label files like their images",
    ),
    "labels-shared": (
        "{images} {share} a label file with another image of the same name and another ending",
        "Keep one of the images, or give each its own label file, such as a.jpg.txt and a.png.txt",
    ),
    "labels-not-read": (
        "{files} of labels {are} not read, because {their} images have another one with other content",
        "Delete the one that is out of date; labels/ comes before labels beside the images",
    ),
    "keypoints-not-read": (
        "{annotations} {have} keypoints, which SAM 3 does not support: only the box is learned, and no mask",
        "Nothing, if boxes are enough; otherwise export the dataset with polygons",
    ),
    "label-without-image": (
        "{images} that {have} an annotation file {are} missing",
        "Put {them} into the folder of the images, or delete the annotation files",
    ),
    "class-without-name": (
        "{categories} {have} no name in data.yaml or classes.txt and {are} named by number, which means nothing to "
        "SAM 3",
        "Write the names into data.yaml",
    ),
    "annotation-file-not-read": (
        "{files} next to the annotation files in use {are} not read",
        "Nothing, if intended; otherwise open each one separately, or arrange the splits as the README shows",
    ),
    "phrase-from-folder": (
        "The annotation files have no categories, so all objects are named after the folder",
        "Give the phrase for these objects when you open the dataset, or rename the folder",
    ),
}
INFOS: dict[str, tuple[str, str]] = {
    "phrases-from-text-input": (
        "This is SA-Co, SAM 3's own format: {pairs:,} pairs of an image and a phrase (text_input), of {pictures:,} "
        "images and {phrases:,} phrases. The names of 'categories' are not used",
        "Nothing, if the phrases are right; an entry without annotations is a negative phrase of its image",
    ),
    "text-not-utf-8": (
        "The annotation file is saved as {encoding} instead of UTF-8; it is read",
        "Nothing; other tools may need it saved as UTF-8",
    ),
    "json-not-strict": (
        "The annotation file is not strict JSON: it has {liberties}; it is read all the same",
        "Nothing, unless other tools read the file too",
    ),
    "image-without-label-file": (
        "{images} {have} no label file and {are} treated as images without objects",
        "Nothing, if {they} {have} no objects; otherwise put the label files where those of the other images are",
    ),
}
LIBERTIES = {  # of JSON -> in words
    "nan": "NaN or Infinity instead of numbers",
    "trailing-commas": "commas before closing brackets",
    "comments": "comments",
}
VARIANTS: dict[tuple[str, str], tuple[str | None, str | None]] = {
    ("phrases-from-text-input", "fractions"): (
        INFOS["phrases-from-text-input"][0] + "; boxes are fractions of the image's size, as in Meta's files, and are "
        "scaled to pixels",
        None,
    ),
    ("keypoints-not-read", "guessed"): (
        "{annotations} {have} {numbers} numbers after the class that look like a box with keypoints, not like a "
        "polygon: only the box is learned, and no mask",
        "Nothing, if boxes are enough. If they are polygons, write 'task: segment' into data.yaml",
    ),
    ("text-not-utf-8", "guessed"): (
        "The annotation file is not saved as UTF-8; it is read as {encoding}, which is a guess: names with other "
        "letters than a to z may come out wrong",
        "Check the names of categories and images here; if they are wrong, save the file as UTF-8",
    ),
    ("no-objects", "yolo"): (
        None,
        "See the other findings of the split, and check that the label files are named like the images and not empty",
    ),
    ("no-images", "yolo"): (
        "The folder of images has none that can be used",
        "Put the images there, or correct the path in data.yaml",
    ),
    ("image-missing", "yolo"): (
        "{images} named in the list {are} missing",
        "Put {them} there, or delete {their} {lines} from the list",
    ),
    ("unknown-category", "yolo"): (
        "{annotations} {have} a class number that has no name, and {are} left out",
        "Add the class to 'names' in data.yaml (or to classes.txt, obj.names, ...), or correct the number: the first "
        "class is 0",
    ),
    ("boxes-normalized", "yolo"): (
        "{count:,} of {boxes:,} annotations {have} a box within the first pixel of the image, and {are} left out",
        "Delete the lines, or correct them: x, y, width and height are fractions of the image's size",
    ),
    ("boxes-outside-image", "yolo"): (
        None,
        "Check that a line is: class, x and y of the center, width, height, in fractions of the image's size",
    ),
    ("bad-bbox", "yolo"): (None, "Write width and height above zero, as fractions of the image's size"),
    ("bad-segmentation", "yolo"): (None, "Write: class x y x y ..., with at least 3 points"),
    ("bad-category", "yolo"): (None, "Give each class in data.yaml a name: a noun in English"),
    ("image-unreadable", "yolo"): (None, "Replace the file, or delete it together with its label file"),
}
