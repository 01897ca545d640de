"""The objects of annotations: boxes and masks, however they are written."""
