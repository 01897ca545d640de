"""What the doctor finds, in words: one sentence of meaning, one of what to do."""

from __future__ import annotations

from sam3_lora.data.findings.findings import WORDINGS, Wording

# In the order in which findings of one severity are shown. The words in braces are those of
# health.FindingCollector; the numbers are facts about SAM 3 (see objects.py).
DEEP_WORDINGS: dict[str, Wording] = {
    "image-truncated": Wording(
        "error",
        "{images} {have} the beginning of an image, but cannot be decoded to {their} end: {they} {are} cut off or "
        "damaged, and training stops there",
        "Copy or download {them} again, or delete {their} entry",
    ),
    "image-gigantic": Wording(
        "error",
        "{images} {have} more than {max_pixels} million pixels: decoding takes gigabytes of memory, and of "
        "1008 x 1008 pixels that the model sees, hardly an object is left",
        "Cut the image into tiles of about 1,000 to 2,000 pixels a side, and the annotations with it",
    ),
    "leaked-images": Wording(
        "error",
        "{images} {stand} in an earlier split too, the same to the last byte: what is measured on {them} says "
        "nothing about new images",
        "Delete {them} from one of the splits, unless one split is meant to be a part of the other",
    ),
    "image-32-bit": Wording(
        "error",
        "{images} {have} 32 bits per pixel: everything above 255 becomes plain white when the model is shown {them}",
        "Scale the values to 0..255 and save as 8-bit PNG or JPEG",
    ),
    "empty-mask": Wording(
        "warning",
        "{annotations} {have} a mask without a single pixel: only the box is learned, and no mask",
        "Draw the mask again, or delete the annotation; a polygon in fractions of the image must be multiplied by its "
        "width and height",
    ),
    "phrase-code": Wording(
        "warning",
        "{categories} {have} a number, a code or a mere placeholder as name, where SAM 3 knows only words: what it has "
        "already learned of such objects goes unused",
        "Give the phrase in plain words, as one would point it out to a child: a noun, with an adjective if it helps",
    ),
    "phrase-long": Wording(
        "warning",
        "{categories} {have} a long name: SAM 3 was trained on short noun phrases, and what goes beyond 32 tokens "
        "is cut off",
        "Shorten it to a noun with one or two adjectives",
    ),
    "phrase-position": Wording(
        "info",
        "{categories} {have} a word in the name that may mean a place. SAM 3 hardly understands places: it finds all "
        "objects of a kind and cannot tell left from right",
        "Nothing, if no place is meant; else leave the word out, and choose among the objects found by their boxes",
    ),
    "phrase-run-together": Wording(
        "warning",
        "{categories} {have} words run together, which the model reads as one word that it has never seen",
        "Write the words apart",
    ),
    "phrase-plural": Wording(
        "warning",
        "{categories} {have} a name that differs from another one's only by its number or its spaces: two phrases "
        "for one thing, each of which calls the other's objects wrong",
        "Use one phrase for both",
    ),
    "untrained-category": Wording(
        "warning",
        "{categories} {have} objects to measure on, but none in 'train' to learn from",
        "Move some of the images to 'train', or leave the category out when you measure",
    ),
    "few-objects": Wording(
        "warning",
        "{categories} {have} fewer than {min_objects} objects to learn from, so that chance decides what is learned",
        "Annotate some more, at best a few dozen; until then judge the result by eye",
    ),
    "class-imbalance": Wording(
        "info",
        "{categories} {have} less than a twentieth of the objects of the most frequent one ({most_frequent}), and "
        "will be learned last",
        "Annotate more of {them}, or train longer and look at each category's own result",
    ),
    "leaked-similar": Wording(
        "warning",
        "{images} {look} nearly like one of an earlier split, or {are} a version of it (frames of one film, "
        "copies saved again, Roboflow's augmentations), so that results on {them} are too good to be true",
        "Put images of one scene into one split",
    ),
    "image-16-bit": Wording(
        "warning",
        "{images} {have} 16 bits per pixel, of which only the upper 8 are used: what fills a small part of the range "
        "looks black to the model",
        "Look at the image here; if it is dark, stretch the values and save as 8-bit PNG or JPEG",
    ),
    "image-animated": Wording(
        "warning",
        "{images} {have} several frames or pages, of which only the first is used",
        "Save the frames as images of their own, or keep only the first",
    ),
    "image-rotated": Wording(
        "warning",
        "{images} {have} a note of the camera (EXIF) by which viewers turn or mirror the picture; it is followed "
        "only where the annotation file gives the turned size",
        "Look whether the masks lie on the objects; at best turn the pixels themselves and drop the note",
    ),
    "image-cmyk": Wording(
        "warning",
        "{images} {have} the colours of a printing press (CMYK), which are converted to RGB only roughly",
        "Convert {them} to RGB with the right colour profile",
    ),
    "box-mask-mismatch": Wording(
        "warning",
        "{annotations} {have} a box that does not fit the mask (IoU under {min_iou}), so box and mask teach "
        "different things",
        "Look which of the two is right; a box can be taken from its mask by deleting it",
    ),
    "object-vanishes": Wording(
        "warning",
        "{annotations} {have} no pixel left when the image is scaled to the model's {model_side} x {model_side}, so "
        "{they} cannot be seen",
        "Cut the image into tiles, or delete the annotation",
    ),
    "too-many-objects": Wording(
        "warning",
        "{images} {have} more objects of one phrase than the model can give answers ({queries}); the others can never "
        "be found",
        "Cut the image into tiles, or make one crowd region of objects that nobody counts",
    ),
    "tiny-object": Wording(
        "warning",
        "{annotations} {have} fewer than {min_pixels} pixels, mostly a slip of the mouse",
        "Delete {them}, or draw {them} again",
    ),
    "polygon-crosses-itself": Wording(
        "warning",
        "{annotations} {have} a polygon whose outline crosses itself, and what it encloses is filled differently by "
        "different programs",
        "Draw the outline again, or export masks as run lengths",
    ),
    "object-twice": Wording(
        "warning",
        "{annotations} {have} nearly the same box (IoU over {same_iou}) and mask as another one of the same category, "
        "so one of two right answers is always called wrong",
        "Delete one of the two",
    ),
    "identical-images": Wording(
        "warning",
        "{images} {repeat} another one of the split to the last byte, so that it counts twice",
        "Delete the copies; where their annotations differ, keep the right ones",
    ),
    "similar-images": Wording(
        "info",
        "{images} {look} nearly like another one of the split",
        "Nothing, if they are frames of one film; else delete those that add nothing",
    ),
    "small-object": Wording(
        "info",
        "{annotations} {fall} between the pixels of the model's {mask_side} x {mask_side} masks, which will be coarser "
        "than {they} {are}",
        "Cut the image into tiles if {their} exact outline matters",
    ),
    "polygon-short-part": Wording(
        "info",
        "{annotations} {have} a part of fewer than 3 points beside the others; it is left out",
        "Nothing, if the rest is right",
    ),
    "image-transparent": Wording(
        "info",
        "{images} {have} transparent places; the model is shown what lies beneath",
        "Look at the image here; if something odd appears, save it without transparency",
    ),
    "image-palette": Wording(
        "info",
        "{images} {have} a palette of at most 256 colours",
        "Nothing, if it is a photograph that looks right; a drawing of masks may have been taken for its image",
    ),
}
# What is also looked for when a dataset is opened, there in a few files only.
ALL_WORDINGS: dict[str, Wording] = WORDINGS | DEEP_WORDINGS
