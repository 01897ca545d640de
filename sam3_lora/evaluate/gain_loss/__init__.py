"""What an adapter gains and what it forgets, as points in one picture."""
