"""Training: the loop, the run folder it writes, the background job around it."""
