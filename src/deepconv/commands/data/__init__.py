"""Prepare, check or shrink a data set, or add boxes to it."""

ACTIONS = ("imagenet", "imagenet-boxes", "check", "resize")
