"""Time a config's training step, evaluation, input pipeline and compilation.

`deepconv benchmark` is the command; no other package imports this one.
"""
