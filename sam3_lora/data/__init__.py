"""Datasets: their formats, their findings, and the phrases and samples made of them."""
