"""Widgets of the dataset page."""
