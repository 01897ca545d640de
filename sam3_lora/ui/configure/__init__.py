"""Widgets of the configuration page."""
