"""Every fault that the app can find in a COCO dataset, with the code that makes it."""

from sam3_lora.demo.faults import categories, copies, entries, files, objects, whole_file
from sam3_lora.demo.faults.fault import Fault

__all__ = ["FAULTS", "Fault"]

FAULTS: dict[str, Fault] = (
    objects.FAULTS | entries.FAULTS | files.FAULTS | copies.FAULTS | categories.FAULTS | whole_file.FAULTS
)
