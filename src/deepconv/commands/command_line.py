"""What every command shares: flags are parsed, and what the user can mend is one line."""

import contextlib
import importlib.machinery
import importlib.util
import inspect
import io
import logging
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from absl import app, flags
from ml_collections import ConfigDict

from deepconv import naming
from deepconv.config.check import unknown_key
from deepconv.config.schema import flattened
from deepconv.exceptions import (
    INTERRUPTED,
    TRY_AGAIN,
    USER_ERROR,
    Interrupted,
    Preempted,
    UserError,
)

FAULT = 1


class _Printable(logging.Formatter):
    """Messages without the controls that a file's name may have; those of a table have lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return "\n".join(map(naming.one_line, super().formatMessage(record).split("\n")))


def run(
    main: Callable[[Sequence[str]], None],
    *,
    arguments: int = 0,
    interrupted: str = "interrupted",
) -> NoReturn:
    """Parse the flags, call `main` and exit.

    The status is 0, 1 for a fault of ours, 2 for one of the user's, 75 where the same command is
    to be started again, 130 after Ctrl-C.

    Args:
      main: is given the command and its arguments, without the flags.
      arguments: how many it takes at most.
      interrupted: what is true whenever Ctrl-C ends it.
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
        except Interrupted as stopped:
            _leave_interrupted(str(stopped))
        except Exception as error:
            if _is_one_of_several():
                _leave(error)
            raise

    try:
        app.run(guarded, flags_parser=_parse)
    except KeyboardInterrupt as error:
        # It may have come while a run that had been told to stop was ending.
        saved: BaseException | None = error
        while saved is not None and not isinstance(saved, Interrupted | Preempted):
            saved = saved.__context__
        _leave_interrupted(str(saved or interrupted))


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


def _leave_interrupted(message: str) -> NoReturn:
    _say(message)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(INTERRUPTED)  # threads that decode or write need not be waited for


def _say(message: str) -> None:
    print(f"deepconv: {message}", file=sys.stderr, flush=True)


def _parse(argv: Sequence[str]) -> Sequence[str]:
    if "config" in flags.FLAGS:
        _require_file_first(argv)
        flags.FLAGS["config"].parser = ConfigFile()
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
        fail(str(error))


_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)")


def _require_file_first(argv: Sequence[str]) -> None:
    for argument in argv[1:]:
        if re.match(r"--?config(=|$)", argument):
            return
        if _OVERRIDE.match(argument):
            fail(f"{argument} changes a value of a config: it belongs after --config=FILE")


class ConfigFile(flags.ArgumentParser[ConfigDict]):
    """Reads what --config names: a Python file, and the variant after a colon."""

    def parse(self, argument: str) -> ConfigDict:
        """Return the config, locked, in which every key that the command line changes exists.

        Raises:
          UserError: naming the file, and the line where it has one.
        """
        # Importing jax takes a second, and not every command needs it.

        file, colon, variant = argument.partition(":")
        path = Path(file).absolute()
        if not path.is_file():
            raise UserError(f"there is no config file {path}")
        # A config imports the one it derives from as `configs.vgg_a`, wherever the command is run.
        sys.path.append(str(path.parent.parent))
        try:
            config = _call(_module(path), file, variant if colon else None)
        except UserError:
            raise
        except Exception as error:  # a config is a program, and may raise anything
            raise UserError(_described(error, file)) from None
        if not isinstance(config, ConfigDict):
            raise UserError(
                f"{file}: get_config() returns {type(config).__name__}; it must return a config, "
                "made from deepconv.config.default()"
            )
        keys = {key for key, _ in flattened(config)} | {*config}
        for argument in sys.argv[1:]:
            if (override := _OVERRIDE.match(argument)) and override[1] not in keys:
                raise UserError(f"{argument}: {unknown_key(override[1], config)}")
        return config.lock()


def _module(path: Path) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader(f"config_{path.stem}", str(path))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module  # where dataclasses look for theirs
    loader.exec_module(module)
    return module


def _call(module: ModuleType, file: str, variant: str | None) -> object:
    get_config = getattr(module, "get_config", None)
    if not callable(get_config):
        raise UserError(f"{file} has no function get_config()")
    parameters = inspect.signature(get_config).parameters.values()
    if variant is not None and not parameters:
        raise UserError(f"{file} has no variants: leave out :{variant}")
    if variant is None and any(p.default is p.empty for p in parameters):
        raise UserError(f"{file} needs a variant: --config={file}:VARIANT")
    return get_config() if variant is None else get_config(variant)


def _described(error: Exception, file: str) -> str:
    """Say in which line of a config's file, or of one beside it, an error arose, and what it is."""
    from deepconv.config.check import unknown_key
    from deepconv.config.schema import default

    folder = Path(file).absolute().parent
    if isinstance(error, SyntaxError):
        where, line, text = error.filename or file, error.lineno, error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        within = [frame for frame in frames if Path(frame.filename).parent == folder]
        where, line = (within[-1].filename, within[-1].lineno) if within else (file, None)
        text = str(error)
    if Path(where) == Path(file).absolute():
        where = file
    place = f"{where}, line {line}" if line else where
    # A config's own errors quote the key, some of them with all the values beside it.
    key = re.search(r'Key "([^"]+)" does not exist', text) or re.fullmatch(
        r"""["'\\]+(\w+)["'\\]+(?:nDid you mean.*)?""", text
    )
    if isinstance(error, AttributeError | KeyError) and key:
        return f"{place}: {unknown_key(key[1], default())}"
    return f"{place}: {type(error).__name__}: {text}"
