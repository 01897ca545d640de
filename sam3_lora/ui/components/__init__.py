"""Widgets and charts that know no page."""
