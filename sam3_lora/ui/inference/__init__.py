"""Widgets of the inference page."""
