"""Replay: the base model is asked once, and the adapter is held to its answers while it trains."""
