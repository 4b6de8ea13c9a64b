"""What every command shares: flags are parsed, and what the user can mend is one line."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from absl import app, flags

from deepconv.user_error import UserError

USER_ERROR = 2
INTERRUPTED = 130


def run(main: Callable[[Sequence[str]], None], *, arguments: int = 0) -> NoReturn:
    """Parse the flags, call `main` and exit: 0, 1 for a fault of ours, 2 for one of the user's.

    Args:
      main: is given the command and its arguments, without the flags.
      arguments: how many it takes at most.
    """
    # Libraries report every stage of their work; what matters of it, our own loggers say.
    ours = logging.getLogger("deepconv")
    ours.setLevel(logging.INFO)
    ours.propagate = False
    ours.addHandler(logging.StreamHandler())

    def guarded(argv: Sequence[str]) -> None:
        # Orbax logs an error in writing several times, with tracebacks, before raising it.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        logging.getLogger().setLevel(logging.ERROR)
        if len(argv) > 1 + arguments:
            fail(f"unexpected argument {argv[1 + arguments]!r}; flags begin with --")
        try:
            main(argv)
        except UserError as error:
            fail(str(error))
        except OSError as error:
            fail(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
        except KeyboardInterrupt:
            print(
                "deepconv: interrupted; the same command goes on from there",
                file=sys.stderr,
            )
            os._exit(INTERRUPTED)  # threads that decode or write need not be waited for

    app.run(guarded, flags_parser=_parse)


def fail(message: str) -> NoReturn:
    """Say in one line what is wrong, and end the process."""
    print("deepconv: " + " ".join(message.split()), file=sys.stderr, flush=True)
    sys.exit(USER_ERROR)


def _parse(argv: Sequence[str]) -> Sequence[str]:
    for flag in argv:
        # A config imports the one it derives from as `configs.vgg_a`, wherever the command is run.
        if flag.startswith("--config="):
            path = Path(flag.removeprefix("--config=").partition(":")[0]).absolute()
            if not path.exists():
                fail(f"there is no config file {path}")
            sys.path.append(str(path.parent.parent))
    try:
        return flags.FLAGS(argv)
    except (
        flags.Error,
        UserError,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        OSError,
    ) as error:
        fail(str(error).strip("'\""))
