"""Dataset formats: one file per format, each of which gives COCO's three lists; layouts.py recognises them."""
