"""How fast a config trains, scores and reads its images, and how fast PyTorch does the same.

A wing: nothing else imports it. `deepconv benchmark` is the command.
"""
