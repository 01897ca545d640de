"""Labelling by confirming: a model proposes, a person decides; what is decided is a COCO dataset."""
