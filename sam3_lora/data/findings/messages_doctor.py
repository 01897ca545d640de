"""What the doctor finds when it reads every image: kind -> (what is wrong, what to do); see messages.py."""

from __future__ import annotations

ERRORS: dict[str, tuple[str, str]] = {
    "image-truncated": (
        "{images} {have} a valid header but cannot be decoded to the end: {they} {are} truncated or damaged, and "
        "training would stop there",
        "Copy or download {them} again, or delete {their} {entries}",
    ),
    "image-gigantic": (
        "{images} {have} more than {max_megapixels} million pixels: decoding takes gigabytes of memory, and hardly any "
        "object survives the scaling to the model's 1008 x 1008 pixels",
        "Cut the image into tiles of about 1,000 to 2,000 pixels a side, and the annotations with it",
    ),
    "leaked-images": (
        "Data leakage: {images} also {appear} in an earlier split, byte for byte, so metrics measured on {them} say "
        "nothing about new images",
        "Delete {them} from one of the splits, unless one split is meant to be a part of the other",
    ),
    "image-32-bit": (
        "{images} {have} 32 bits per pixel: every value above 255 becomes white when the model sees {them}",
        "Scale the values to 0..255 and save as 8-bit PNG or JPEG",
    ),
}
WARNINGS: dict[str, tuple[str, str]] = {
    "empty-mask": (
        "{annotations} {have} an empty mask: only the box is learned, and no mask",
        "Draw the mask again, or delete the annotation; a polygon in fractions of the image must be multiplied by its "
        "width and height",
    ),
    "phrase-code": (
        "{categories} {have} a number, a code or a placeholder as name. SAM 3 understands only words, so what it "
        "already knows about such objects is not used",
        "Give a phrase in plain words, a noun, with an adjective if it helps, in the Dataset page's table of phrases "
        "or in data.category_phrases",
    ),
    "phrase-not-english": (
        "{categories} {have} a name that is not English. SAM 3 was trained on English phrases, so what it already "
        "knows about such objects is hardly used",
        "Give each an English phrase, in the Dataset page's table of phrases or in data.category_phrases; the names in "
        "the dataset may stay",
    ),
    "phrase-for-nothing": (
        "{categories} {have} a name that says that nothing is there, or that nobody has labeled it. SAM 3 would learn "
        "to find its annotations as objects of that name",
        "Delete the category with its annotations; if it is a thing after all, such as a void in concrete, give it a "
        "phrase that says so",
    ),
    "phrase-with-comma": (
        "{categories} {have} a comma or a semicolon in the name, which is trained as one phrase. SAM 3 was trained on "
        "simple noun phrases, and where phrases are typed, commas separate them",
        "Give a phrase without it, such as 'severe damage' for 'damage, severe'; put the name into quotes where you "
        "type it",
    ),
    "phrase-long": (
        "{categories} {have} a long name: SAM 3 was trained on short noun phrases, and everything beyond 32 tokens is "
        "cut off",
        "Shorten it to a noun with one or two adjectives",
    ),
    "phrase-run-together": (
        "{categories} {have} words run together, which the model reads as one unknown word",
        "Write the words separately",
    ),
    "phrase-plural": (
        "{categories} {have} a name that differs from another one only in number (singular or plural) or spaces: two "
        "phrases for one thing, each of which makes the other's objects false positives",
        "Use one phrase for both",
    ),
    "untrained-category": (
        "{categories} {have} objects to evaluate on, but none in 'train' to learn from",
        "Move some of the images to 'train', or leave the category out of the evaluation",
    ),
    "few-objects": (
        "{categories} {have} fewer than {min_objects} objects to learn from, so the result depends on chance",
        "Annotate more, ideally a few dozen; until then judge the result by eye",
    ),
    "leaked-similar": (
        "Data leakage: {images} {look} nearly like one in an earlier split, or {are} another version of it (video "
        "frames, re-saved copies, Roboflow's augmentations), so metrics measured on {them} are too good",
        "Put images of one scene into one split",
    ),
    "image-16-bit": (
        "{images} {have} 16 bits per pixel, of which only the upper 8 are used: values in a small part of the range "
        "look black to the model",
        "Look at the image here; if it is dark, stretch the values and save as 8-bit PNG or JPEG",
    ),
    "image-animated": (
        "{images} {have} several frames or pages, of which only the first is used",
        "Save the frames as separate images, or keep only the first",
    ),
    "image-cmyk": (
        "{images} {have} CMYK colors (for print), which are converted to RGB only approximately",
        "Convert {them} to RGB with the right color profile",
    ),
    "box-mask-mismatch": (
        "{annotations} {have} a box that does not fit the mask (IoU under {min_iou:g}), so box and mask contradict "
        "each other",
        "Check which of the two is right; to take the box from the mask, delete the box",
    ),
    "object-vanishes": (
        "{annotations} {have} no pixel left when the image is scaled to the model's {model_side} x {model_side}, so "
        "{they} cannot be seen",
        "Train in tiles (data.tiles: auto), or delete the annotation",
    ),
    "too-many-objects": (
        "{images} {have} more objects of one phrase than the model has queries ({queries}); the rest can never be "
        "found",
        "Train in tiles (data.tiles: auto), or make one crowd region of objects that need not be counted",
    ),
    "tiny-object": (
        "{annotations} {have} fewer than {min_pixels} pixels, most likely a stray click",
        "Delete {them}, or draw {them} again",
    ),
    "polygon-crosses-itself": (
        "{annotations} {have} a self-intersecting polygon, which different programs fill differently",
        "Draw the outline again, or export masks as run lengths (RLE)",
    ),
    "object-twice": (
        "{annotations} {have} nearly the same box (IoU over {same_iou:g}) and mask as another one of the same "
        "category, so one of two correct predictions always counts as a false positive",
        "Delete one of the two",
    ),
    "identical-images": (
        "{images} {repeat} another one of the split byte for byte, so that it counts twice",
        "Delete the duplicates; where their annotations differ, keep the right ones",
    ),
}
INFOS: dict[str, tuple[str, str]] = {
    "image-rotated": (
        "{images} {have} an EXIF orientation, by which viewers rotate or mirror the picture; it is applied where the "
        "annotations were made like that, as their sizes or the format tell",
        "Nothing; to be safe everywhere, rotate the pixels themselves and remove the EXIF orientation",
    ),
    "phrase-position": (
        "{categories} {have} a word in the name that may mean a position. SAM 3 hardly understands positions: it finds "
        "all objects of a kind and cannot tell left from right",
        "Nothing, if no position is meant; otherwise leave the word out, and select objects by their boxes afterwards",
    ),
    "class-imbalance": (
        "{categories} {have} less than a twentieth of the objects of the most frequent one ({most_frequent} with "
        "{most_objects:,}), and will be learned last",
        "Annotate more of {them}, or train longer and look at the metrics per category",
    ),
    "similar-images": (
        "{images} {look} nearly like another one of the split",
        "Nothing, if they are video frames; otherwise delete those that add nothing",
    ),
    "small-object": (
        "{annotations} {fall} between the pixels of the model's {mask_side} x {mask_side} masks, which will be coarser "
        "than {they} {are}",
        "Train in tiles (data.tiles: auto) if the exact outline matters",
    ),
    "polygon-short-part": (
        "{annotations} {have} a part of fewer than 3 points next to the others; it is left out",
        "Nothing, if the rest is right",
    ),
    "image-transparent": (
        "{images} {have} transparent pixels; the model sees the colors beneath",
        "Look at the image here; if something odd appears, save it without transparency",
    ),
    "image-palette": (
        "{images} {have} a palette of at most 256 colors",
        "Nothing, if it is a photograph that looks right; a mask file may have been taken for its image",
    ),
}
