"""The words of findings on what the model is prompted with: phrases that are absent, or annotated only in part.

Words in braces are facts of the finding, or agree with its count: see messages.py.
"""

from __future__ import annotations

ERRORS: dict[str, tuple[str, str]] = {}
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
    "listed-category-unknown": (
        "{count:,} values in neg_category_ids, not_exhaustive_category_ids or pos_category_ids {are} no category's id "
        "and {are} ignored",
        "Write lists of ids from 'categories'",
    ),
}
INFOS: dict[str, tuple[str, str]] = {
    "phrases-from-text-input": (
        "This is SA-Co, SAM 3's own format: {pairs:,} pairs of an image and a phrase (text_input), of {pictures:,} "
        "images and {phrases:,} phrases. The names of 'categories' are not used",
        "Nothing, if the phrases are right; an entry without annotations is a negative phrase of its image",
    ),
    "parent-category": (
        "{categories} {are} the supercategory of others. Where an object of one of these is, the supercategory is no "
        "negative phrase, and further detections for it are not penalized, nor do they count as false positives; and "
        "the others are no negative phrases where only the supercategory is annotated",
        "Nothing, if intended; to learn them as one, give the categories below the phrase of the one above, in the "
        "Dataset page's table of phrases or as {example}",
    ),
    "parent-without-objects": (
        "{categories} {are} only the supercategory of others, without any object, as Roboflow names one after the "
        "project: {they} {are} never used as a phrase",
        "Nothing, if intended; to learn all of them as one, give the categories below the phrase of the one above, in "
        "the Dataset page's table of phrases or as {example}",
    ),
    "negatives-listed": (
        "{images} {have} a list of what is absent (neg_category_ids, or in SA-Co a phrase without annotations): only "
        "this is used for negative phrases there. Whether other categories, and the everyday words used elsewhere, are "
        "in the image is not known",
        "Nothing, if the lists are right; data.num_negatives is how many of them are used at most",
    ),
    "not-exhaustive": (
        "{images} {have} categories of which not every object is annotated. Their annotated objects and their presence "
        "are learned; further detections are not penalized, nor do they count as false positives in evaluation",
        "Nothing, if intended",
    ),
    "image-unknown": (
        "{images} {have} neither an object nor a category listed as absent, so nothing is known of {them}: {they} "
        "{are} left out of training and evaluation",
        "Nothing, if intended; otherwise list absent categories in neg_category_ids, or as a phrase (text_input) whose "
        "annotations are exhaustive",
    ),
}
VARIANTS: dict[tuple[str, str], tuple[str | None, str | None]] = {
    ("phrases-from-text-input", "fractions"): (
        INFOS["phrases-from-text-input"][0] + "; boxes are fractions of the image's size, as in Meta's files, and are "
        "scaled to pixels",
        None,
    ),
}
