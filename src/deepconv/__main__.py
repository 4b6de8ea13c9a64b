"""`python -m deepconv COMMAND`, and the installed command `deepconv`."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command given on the command line."""
    # Decoding worker processes import this module too, and do not need the commands.
    from deepconv.commands import command_line

    command_line.start(sys.argv[1:])


if __name__ == "__main__":
    main()
