"""`python -m deepconv COMMAND`, and the installed command `deepconv`."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command that the command line names."""
    # Processes that decode import this module anew; they have no use for the commands.
    from deepconv.commands import command_line

    command_line.start(sys.argv[1:])


if __name__ == "__main__":
    main()
