"""Findings: what is wrong or odd with a dataset, as facts (findings.py) and in words (messages.py)."""
