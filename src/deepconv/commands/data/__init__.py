"""Prepare, check or shrink a data set."""

ACTIONS = ("imagenet", "check", "resize")
