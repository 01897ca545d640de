"""Edits in words."""

from __future__ import annotations

from sam3_lora.data.edits import kinds
from sam3_lora.data.edits.kinds import AnyEdit
from sam3_lora.data.findings.messages_values import BOX_LAYOUTS
from sam3_lora.data.findings.titles import title_of
from sam3_lora.text import first_names, plural, short

_NAMED = 3  # images or categories in the line of an edit


def describe_edit(edit: AnyEdit) -> str:
    """An edit in one line."""
    match edit:
        case kinds.ExcludeImages():
            text = f"Exclude {plural(len(edit.images), 'image')}: {first_names(edit.images, _NAMED)}"
        case kinds.ExcludeObjects() | kinds.BoxFromMask() | kinds.RemoveMask() | kinds.MaskAsRunLengths():
            text = f"{_OBJECT_EDITS[type(edit)]} of {_objects(edit.objects)}"
        case kinds.RelabelObjects():
            text = f"Relabel as {edit.category}: {_objects(edit.objects)}"
        case kinds.DropShortParts():
            text = f"Drop parts of fewer than 3 points from the masks of {_objects(edit.objects)}"
        case kinds.CrowdsToObjects():
            text = "Learn crowd regions as objects" + (f": {_objects(edit.objects)}" if edit.objects else "")
        case kinds.MergeObjects():
            text = f"Merge {plural(len(edit.ids), 'object')} of {edit.image}"
        case kinds.ReadBoxes():
            layout = BOX_LAYOUTS.get(edit.layout, "[left, top, width, height]")
            text = f"Read boxes as {layout}{' in fractions of the image' if edit.fractions else ''}"
        case kinds.ReadKeys():
            text = "Read " + ", ".join(f"{key} under '{name}'" for key, name in edit.keys.items())
        case kinds.FitToImage():
            text = "Scale annotations to the size of the image files"
        case kinds.MergeEntries():
            text = f"Merge the entries of {first_names(edit.images, _NAMED)}"
        case kinds.RenameCategories():
            pairs = [f"{old} to {new}" for old, new in edit.names.items()]
            text = f"Rename {first_names(pairs, _NAMED)}"
        case kinds.ExcludeCategories():
            text = f"Exclude {plural(len(edit.categories), 'category')}: {first_names(edit.categories, _NAMED)}"
        case kinds.KeepPerCategory():
            text = f"Keep {plural(edit.images, 'image')} per category (seed {edit.seed})"
        case kinds.MoveImages():
            text = f"Move {plural(len(edit.images), 'image')} to {edit.to}: {first_names(edit.images, _NAMED)}"
        case kinds.Accept():
            text = f"Accept as read: {first_names([title_of(kind) for kind in edit.findings], _NAMED)}"
    split = getattr(edit, "split", "")
    return short(f"{text} ({split})" if split else text, 300)


_OBJECT_EDITS = {
    kinds.ExcludeObjects: "Exclude annotations",
    kinds.BoxFromMask: "Take boxes from the masks",
    kinds.RemoveMask: "Leave out the masks",
    kinds.MaskAsRunLengths: "Fill the polygons",
}


def _objects(objects: kinds.Objects) -> str:
    count = sum(map(len, objects.values()))
    return f"{plural(count, 'object')} in {plural(len(objects), 'image')}: {first_names(list(objects), _NAMED)}"
