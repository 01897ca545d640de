"""Widgets of the label page."""
