"""Prompts in tiles: an image window by window, and the masks of a large image as run lengths."""
