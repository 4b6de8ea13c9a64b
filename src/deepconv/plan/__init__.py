"""What a run will need: memory, arithmetic, communication and time, before any of it is spent.

`deepconv plan` is the command. Nothing else imports this; it counts the records of the
layers, and no device is touched.
"""
