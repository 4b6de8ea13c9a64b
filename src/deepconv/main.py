"""Train a network: `python -m deepconv.main --config=...` is `deepconv train --config=...`."""

import sys

if __name__ == "__main__":
    from deepconv.commands import command_line

    command_line.start(["train", *sys.argv[1:]])
