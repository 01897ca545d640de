"""Edits of a dataset: decisions that are applied when it is opened; the user's files are never changed."""
