"""The splits of a dataset: what their names mean, how a run uses them, which images it holds out for validation."""
