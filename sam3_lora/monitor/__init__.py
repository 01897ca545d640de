"""What the curves of a run mean: alerts, healthy ranges, rolling metrics."""
