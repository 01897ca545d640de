"""SAM 3 itself: loading it, running it phrase by phrase, and attaching low-rank adapters to it."""
