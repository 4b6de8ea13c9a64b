"""Estimate a run's memory, arithmetic, communication and time before it starts.

`deepconv plan` is the command. Nothing below imports this package; it counts the layer records and
uses no device.
"""
