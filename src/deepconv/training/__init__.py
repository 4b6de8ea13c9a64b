"""Training: the loop, its step, and what they are built from."""
