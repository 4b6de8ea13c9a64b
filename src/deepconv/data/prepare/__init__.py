"""Preparing data sets: from archives to shards on disk."""
