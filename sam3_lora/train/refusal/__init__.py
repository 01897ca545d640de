"""Repair of refusal: the presence head of a run's adapter is trained alone, and measured before and after."""
