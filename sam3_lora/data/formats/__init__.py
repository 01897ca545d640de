"""Dataset formats: one file per format, which gives COCO's three lists; data/layouts recognizes them.

To add a format: write a module with a function that returns :class:`sam3_lora.data.formats.sources.Source`, one per
split, and call it in :func:`sam3_lora.data.layouts.layouts.recognize`.
"""
