"""Concepts on the inference page: those that are known, and teaching a new one."""
