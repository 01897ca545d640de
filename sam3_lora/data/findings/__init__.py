"""What is wrong or odd with a dataset: kinds of findings, their causes and their words."""
