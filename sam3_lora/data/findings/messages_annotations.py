"""What can be wrong with annotations of any format, found when opened: kind -> (what is wrong, what to do).

Words in braces are facts of the finding, or agree with its count: see messages.py.
"""

from __future__ import annotations

_COCO_ENTRIES = "COCO expects one list 'annotations' whose entries have image_id, category_id, bbox and segmentation"
_RENAME = "Rename the keys, or export the dataset again as COCO JSON"

ERRORS: dict[str, tuple[str, str]] = {
    "annotations-wrong-key": (
        "The annotations were found under {keys}; " + _COCO_ENTRIES + ". Training would learn nothing from them",
        _RENAME,
    ),
    "masks-wrong-key": (
        "The masks were found under {keys}; COCO expects 'segmentation'. Only the boxes would be learned",
        "Rename {keys} to 'segmentation', which holds polygons [[x, y, x, y, ...], ...] in pixels or run lengths (RLE)",
    ),
    "split-unreadable": ("{problem}", "{remedy}"),
    "no-images": (
        "The list 'images' has no usable entry",
        "Export this split again; if it is meant to be empty, remove its annotation file",
    ),
    "boxes-normalized": (
        "{count:,} of {boxes:,} annotations {have} a box between 0 and 1, as if normalized by the image size; COCO "
        "boxes are in pixels",
        "Multiply x and width by the image's width, y and height by its height, or export again as COCO JSON",
    ),
    "boxes-outside-image": (
        "{count:,} of {boxes:,} annotations {have} a box that extends beyond the image, so that targets would leave "
        "[0, 1]: boxes are clipped to the image, and those entirely outside are left out",
        "Check that bbox is [left, top, width, height] in pixels of the width x height that the file gives the image; "
        "boxes made for another image size must be scaled",
    ),
    "no-objects": (
        "The split has no usable object in any of its images ({split_images:,}): nothing to learn or to evaluate",
        "Annotate some objects, or export the split again with its annotations",
    ),
    "image-missing": (
        "{images} named in the annotation file {are} missing",
        "Put {them} beside the JSON file or into images/, or delete {their} {entries} from the file",
    ),
    "image-ambiguous": (
        "{images} {are} not where file_name says, and it is unclear which file in the dataset's folder is meant; none "
        "is used",
        "Write into file_name which file is meant, as its path from the JSON file",
    ),
    "path-outside-dataset": (
        "{images} {have} a file_name that leads outside the dataset's folder; {they} {are} not opened",
        "Move the files into the dataset's folder and write their names relative to the JSON file",
    ),
    "image-unreadable": (
        "{count:,} of {probed:,} checked images cannot be opened",
        "Replace the file, or delete its entry; check other files from the same source",
    ),
    "size-mismatch": (
        "{count:,} of {probed:,} checked images {have} a different size than the annotation file says, so boxes and "
        "masks may be misplaced",
        "If the masks fit the image as it is now, correct width and height in the JSON file; if the image was cropped "
        "or stretched since, export again from the current images",
    ),
    "bad-image": (
        "{images} cannot be used because the entry is invalid",
        "Give each entry of 'images' an id (a number or text) and a file_name",
    ),
    "duplicate-image-id": (
        "{images} {share} an id with another image, so it is unclear whose the annotations are: all images with these "
        "ids are left out, with their annotations",
        "Give each image a unique id, and correct image_id in the annotations",
    ),
    "bad-category": (
        "{categories} cannot be used because the entry is invalid",
        "Give each entry of 'categories' an id, and a name: a noun in English",
    ),
    "duplicate-category-id": (
        "{categories} {share} an id with another category, so it is unclear which one an annotation means: "
        "annotations with these ids are left out",
        "Give each category a unique id, and correct category_id in the annotations",
    ),
    "bad-annotation": (
        "{annotations} cannot be used because the entry is not a JSON object",
        "Write each annotation as {{...}}",
    ),
    "unknown-image": (
        "{annotations} {have} an image_id that no image has, and {are} left out",
        "Correct image_id, or add the image",
    ),
    "nameless-category": (
        "{annotations} {are} of a category without a name, and {are} left out",
        "Give the category a name, a noun in English",
    ),
    "unknown-category": (
        "{annotations} {have} a category_id that no category has, and {are} left out",
        "Correct category_id, or add the category",
    ),
    "bad-bbox": (
        "{annotations} {have} no valid box: the box is taken from the mask if there is a usable one, otherwise the "
        "object is left out",
        "Write bbox as [left, top, width, height] in pixels, width and height above zero",
    ),
}
WARNINGS: dict[str, tuple[str, str]] = {
    "image-orientation-unclear": (
        "{images} {have} an EXIF orientation, by which viewers rotate or mirror the picture, and the size in the "
        "annotation file does not tell whether the annotations were made on it like that; {they} {are} used as viewers "
        "show {them}",
        "Look at {their} boxes on the dataset page; if they miss the objects, remove the EXIF data from the files",
    ),
    "bad-segmentation": (
        "{annotations} {have} an invalid segmentation; no mask is learned from {them}",
        "Write [[x, y, x, y, ...], ...] with at least 3 points in pixels (fractions times the image's width and height)"
        ", or run lengths (RLE) of the image's size",
    ),
    "bad-image-size": (
        "{images} {have} no valid width and height in the file; they are read from the image file, and an image whose "
        "file cannot be read is left out",
        "Write width and height in pixels into each entry of 'images'",
    ),
    "bad-iscrowd": (
        "{annotations} {have} an iscrowd that is neither 0 nor 1, which is read as 0 (a single object)",
        "Write 1 for a region of many objects, else 0",
    ),
    "duplicate-annotation": (
        "{annotations} {repeat} another one of the same image exactly, and {are} left out",
        "Delete the duplicates",
    ),
    "duplicate-annotation-id": (
        "{annotations} {share} an id with another one; {they} {are} used here, but other tools may drop {them}",
        "Give each annotation a unique id",
    ),
    "duplicate-file": (
        "{images} {name} a file that an earlier entry names too; what one entry annotates is missing in the other",
        "Merge the entries and their annotations",
    ),
}
INFOS: dict[str, tuple[str, str]] = {
    "image-elsewhere": (
        "{images} {are} not where file_name says; the file in the dataset's folder that fits the name is used",
        "Nothing, if these are the right images; otherwise correct file_name",
    ),
    "image-scaled": (
        "{count:,} of {probed:,} checked images {have} a different size than the annotation file says, in the same "
        "proportions: scaled after annotation, which training takes into account",
        "Nothing, if the masks fit the image; otherwise correct width and height in the JSON file",
    ),
    "box-from-mask": (
        "{annotations} {have} no box; it is taken from the mask",
        "Nothing, if the masks are right",
    ),
    "annotation-without-id": (
        "{annotations} {have} no valid id; {their} position in the list is used instead",
        "Give each annotation a number as id if other tools read the file too",
    ),
    "same-phrase": (
        "{categories} {read} like another one when used as a phrase; they are learned as one",
        "Rename one of them if they mean different things",
    ),
    "unused-category": (
        "{categories} {have} no object in any split",
        "Nothing, if intended: Roboflow adds its project's name as a category",
    ),
}
VARIANTS: dict[tuple[str, str], tuple[str | None, str | None]] = {
    ("bad-category", "no-list"): (
        "'categories' is no list, so that no annotation has a category",
        "Write 'categories' as a list whose entries have an id and a name: a noun in English",
    ),
    ("unknown-category", "shifted"): (
        "{annotations} {have} a category_id that no category has, and {are} left out; since none has the category_id "
        "{unused}, all may be one too {off}, and the others may have the wrong category",
        "Look at the categories of some objects here; if they are wrong, correct category_id in all annotations, or id "
        "in 'categories'",
    ),
    ("annotations-wrong-key", "no-list"): (
        "'annotations' is an object instead of a list; " + _COCO_ENTRIES + ". Training would learn nothing from it",
        "Write 'annotations' as a list, or export the dataset again as COCO JSON",
    ),
    ("annotations-wrong-key", "in-images"): (
        "The annotations were found under {keys} in the entries of 'images'; " + _COCO_ENTRIES + ". Training would "
        "learn nothing from them",
        None,
    ),
    ("annotations-wrong-key", "in-annotations"): (
        "{annotations} {have} {their} object under {keys}; COCO expects 'bbox' and 'segmentation'. Training would "
        "learn nothing from {them}",
        None,
    ),
    ("boxes-normalized", "stray"): (
        "{count:,} of {boxes:,} annotations {have} a box within the first pixel of the image, most likely a stray "
        "click: the box is taken from the mask if there is a usable one, otherwise the object is left out",
        "Draw the box again in pixels, or delete the annotation",
    ),
    ("no-objects", "crowds"): (
        None,
        "If each of them is one object, set data.crowds_as_objects (Configure page: 'Learn crowd regions as objects')",
    ),
    ("image-missing", "address"): (
        "{images} named in the annotation file {are} missing: file_name is an address, and no file of that name is in "
        "the dataset's folder",
        "Download {them} into images/ beside the JSON file, under the last part of the address",
    ),
    ("duplicate-file", "same-id"): (
        "{images} {name} a file that an earlier entry names too; both entries have the same id, so nothing is missing",
        "Delete the duplicates",
    ),
}
