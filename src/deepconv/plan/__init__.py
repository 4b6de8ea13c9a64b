"""Estimate what a run will need before it starts: memory, arithmetic, communication and time.

`deepconv plan` is the command. Everything is counted from the layer records; no device is used, and
no other package imports this one.
"""
