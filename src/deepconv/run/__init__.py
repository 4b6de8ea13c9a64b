"""A run's folder: its files, and how they are written and read."""
