"""Edits of the open dataset on the page: their list, fixes, writing out and merging."""
