"""What a run is told: every key, its check, and the stages of a recipe."""
