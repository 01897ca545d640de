"""Every fault that the app can find in a COCO dataset, with the code that makes it."""

from sam3_lora.demo.faults import categories, copies, entries, files, objects, whole_file
from sam3_lora.demo.faults.fault import Fault, faults_in

__all__ = ["FAULTS", "Fault"]

FAULTS: dict[str, Fault] = (
    faults_in(objects, "train")
    | faults_in(entries, "entries")
    | faults_in(files, "files")
    | faults_in(copies, "copies")
    | faults_in(categories, "categories")
    | faults_in(whole_file, whole_file.SPLITS)
)
