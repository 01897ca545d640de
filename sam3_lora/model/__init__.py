"""Loads SAM 3, runs it for many phrases per image, and attaches low-rank adapters."""
