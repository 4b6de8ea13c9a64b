"""What every command shares: flags are parsed, and what the user can mend is one line."""

import io
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from absl import app, flags

from deepconv import naming
from deepconv.exceptions import Preempted, UserError

FAULT = 1
USER_ERROR = 2
TRY_AGAIN = os.EX_TEMPFAIL  # 75: for a scheduler, which has only to start the same command again
INTERRUPTED = 130


class _Printable(logging.Formatter):
    """Messages without the controls that a file's name may have; those of a table have lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return "\n".join(map(naming.one_line, super().formatMessage(record).split("\n")))


def run(main: Callable[[Sequence[str]], None], *, arguments: int = 0) -> NoReturn:
    """Parse the flags, call `main` and exit.

    The status is 0, 1 for a fault of ours, 2 for one of the user's, 75 where the same command is
    to be started again, 130 after Control-C.

    Args:
      main: is given the command and its arguments, without the flags.
      arguments: how many it takes at most.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=naming.ERRORS)
    # Libraries report every stage of their work; what matters of it, our own loggers say.
    ours = logging.getLogger("deepconv")
    ours.setLevel(logging.INFO)
    ours.propagate = False
    handler = logging.StreamHandler()
    handler.setFormatter(_Printable())
    ours.addHandler(handler)

    def guarded(argv: Sequence[str]) -> None:
        # Orbax logs an error in writing several times, with tracebacks, before raising it.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        logging.getLogger().setLevel(logging.ERROR)
        sys.unraisablehook = _without_echoes
        if len(argv) > 1 + arguments:
            fail(f"unexpected argument {argv[1 + arguments]!r}; flags begin with --")
        try:
            main(argv)
        except UserError as error:
            fail(str(error))
        except OSError as error:
            fail(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
        except Preempted as preempted:
            fail(str(preempted), TRY_AGAIN)
        except KeyboardInterrupt:
            _say("interrupted; the same command goes on from there")
            os._exit(INTERRUPTED)  # threads that decode or write need not be waited for
        except Exception as error:
            if _is_one_of_several():
                _leave(error)
            raise

    app.run(guarded, flags_parser=_parse)


def fail(message: str, status: int = USER_ERROR) -> NoReturn:
    """Say in one line what is wrong, and end the process."""
    _say(naming.one_line(" ".join(message.split())))
    if _is_one_of_several():
        # An orderly exit waits for the others, who may be waiting for this process.
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


def complain(lines: Sequence[str]) -> None:
    """Say what of the input could not be used, a line each, and end the process if there is any.

    For commands that do the rest of their work first.
    """
    for line in lines:
        _say(naming.one_line(" ".join(line.split())))
    if lines:
        sys.exit(USER_ERROR)


def define_weights() -> None:
    """Define --weights and --which, of the commands that look at pictures with a network."""
    flags.DEFINE_string("weights", None, "The folder of a run, or a file of weights.")
    flags.DEFINE_enum("which", "last", ["last", "best"], "Which of a run's parameters.")
    flags.mark_flag_as_required("weights")


def output_file(flag: str, ending: str) -> Path | None:
    """Return the file to write that a flag names, if it is set.

    Args:
      flag: its name.
      ending: that the file must have, such as ".png".

    Raises:
      UserError: if it has another, or lies in no folder that exists.
    """
    value = flags.FLAGS[flag].value
    if value is None:
        return None
    path = Path(value)
    if path.suffix != ending or not path.absolute().parent.is_dir():
        raise UserError(f"--{flag}={path} is not a {ending} file in a folder that exists")
    return path


def require_writable(folder: Path, instead: str) -> None:
    """Make sure that files can be written to a folder, which is made if it is missing.

    Args:
      folder: where results go if nothing else is said.
      instead: what the user can do otherwise, such as "--out=FILE.png writes elsewhere".

    Raises:
      UserError: if they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {folder} ({error.strerror}); {instead}") from None


def _without_echoes(echo: "sys.UnraisableHookArgs") -> None:
    # After a failed write tensorstore's threads report to orbax's loop of events, which has ended.
    if str(echo.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(echo)


def _is_one_of_several() -> bool:
    # Not every command needs jax, which takes a second to import.
    return "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized()


def _leave(error: Exception) -> NoReturn:
    from deepconv import parallel

    if parallel.tells_of_a_lost_process(error):
        fail(
            "another process of this run has ended, see its output; the same commands go on from "
            f"the last checkpoint ({str(error).splitlines()[0][:200]})",
            TRY_AGAIN,
        )
    traceback.print_exception(error)
    os._exit(FAULT)


def _say(message: str) -> None:
    print(f"deepconv: {message}", file=sys.stderr, flush=True)


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
