"""What a run will need before it starts: memory, arithmetic, communication and time.

`deepconv plan` is the command. `stages` estimates it from the layer records; `compiler` compiles
the run's own steps for described GPUs and `program` reads what the compiler made. No device is
used, and no other package imports this one.
"""
