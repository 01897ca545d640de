"""The files of a base model: where they are, their architecture and processor, and Meta's own checkpoints."""
