"""Which format and which layout the dataset in a folder has, by its files, their names and their keys."""
