"""An evaluation in words: sentences, and the report as Markdown."""
