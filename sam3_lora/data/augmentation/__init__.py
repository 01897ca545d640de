"""Random changes of training images, their targets and their prompts; nothing of it runs with the default settings."""
