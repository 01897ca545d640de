"""The demo that ships with the app: a copy of its dataset with one of each fault."""
