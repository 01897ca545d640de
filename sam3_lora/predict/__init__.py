"""Prompting a model: one image or a folder, post-processing and export of predictions."""
