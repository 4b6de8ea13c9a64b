"""A run's folder: what lies in it, and how it is written and read."""
