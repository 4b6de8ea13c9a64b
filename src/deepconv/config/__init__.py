"""The config of a run: its keys, their checks, and the stages of a recipe."""
