"""Learning a concept from a few examples: see learn.py."""
