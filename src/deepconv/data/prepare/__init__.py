"""Data sets from archives to shards on disk."""
