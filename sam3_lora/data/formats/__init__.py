"""Dataset formats: one file per format, each turning files into COCO's three lists."""
