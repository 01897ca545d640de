"""The words of findings on what the model is prompted with: phrases that are absent, or annotated only in part.

Words in braces are facts of the finding, or agree with its count: see messages.py.
"""

from __future__ import annotations

ERRORS: dict[str, tuple[str, str]] = {}
WARNINGS: dict[str, tuple[str, str]] = {
    "flags-not-read": (
        "{keys} of the annotation file {are} not read, although other tools use such keys to say what is no "
        "object, unsure, a group, absent, or not annotated yet: every image and annotation is learned, whatever they "
        "say",
        "Remove images and annotations that are not to be learned; write iscrowd 1 for a group, neg_category_ids for "
        "what is absent in an image, and is_instance_exhaustive 0 where objects are not annotated",
    ),
    "phrases-not-read": (
        "{keys} of the annotation file {are} not read, although {they} may hold the phrases that objects are asked "
        "for by: the names of 'categories' are the phrases",
        "Nothing, if these names are right; otherwise write the phrase as text_input into each entry of 'images', as "
        "SA-Co has it, or make each phrase a category",
    ),
    "listed-category-unknown": (
        "{values} in neg_category_ids, not_exhaustive_category_ids or pos_category_ids {are} no category's id "
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
    "keys-not-read": (
        "{keys} of the annotation file {are} not read",
        "Nothing, if they do not bear on what is to be learned",
    ),
    "image-unknown": (
        "{images} {have} neither an object nor a category listed as absent, so nothing is known of {them}: {they} "
        "{are} left out of training and evaluation",
        "Nothing, if intended; otherwise list absent categories in neg_category_ids, or as a phrase (text_input) whose "
        "annotations are exhaustive",
    ),
}
