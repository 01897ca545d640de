"""Tiles: large images cut into parts, so that small objects stay visible and fewer are in each."""
