"""The files of an adapter: where they are, what they say, and whether they fit a base model."""
