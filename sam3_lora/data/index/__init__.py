"""Reads a split into an index: its images and annotations as arrays, cached on disk if they are many."""
