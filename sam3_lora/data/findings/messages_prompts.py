"""The words of findings on what the model is prompted with: phrases that are absent, or annotated only in part.

Words in braces are facts of the finding, or agree with its count: see messages.py.
"""

from __future__ import annotations

ERRORS: dict[str, tuple[str, str]] = {}
WARNINGS: dict[str, tuple[str, str]] = {
    "listed-category-unknown": (
        "{count:,} values in neg_category_ids, not_exhaustive_category_ids or pos_category_ids {are} no category's id "
        "and {are} ignored",
        "Write lists of ids from 'categories'",
    ),
}
INFOS: dict[str, tuple[str, str]] = {
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
        "{images} {have} a list of the categories that are absent (neg_category_ids): only these are used as negative "
        "phrases there. Whether the others, and the everyday words used elsewhere, are in the image is not known",
        "Nothing, if the lists are right; data.num_negatives is the largest number that is used of them",
    ),
    "not-exhaustive": (
        "{images} {have} categories of which not every object is annotated. Their annotated objects and their presence "
        "are learned; further detections are not penalized, nor do they count as false positives in evaluation",
        "Nothing, if intended",
    ),
    "image-unknown": (
        "{images} {have} neither an object nor a category listed as absent, so nothing is known of {them}: {they} "
        "{are} left out of training and evaluation",
        "Nothing, if intended; otherwise list absent categories in neg_category_ids",
    ),
}
VARIANTS: dict[tuple[str, str], tuple[str | None, str | None]] = {}
