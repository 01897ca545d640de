"""Datasets: reading them, what is wrong with them, and what a model is asked and taught about their images."""
