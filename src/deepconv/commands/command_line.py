"""The `deepconv` command: which command runs, its flags, its help, and how it ends.

    command_line.start(["summary", "--config=vgg_e"])   # never returns
    summary.main(*command_line.parse(summary, ["--config=vgg_e"]))

A command is a module of `deepconv.commands`; its docstring is its synopsis. It has
`define_flags(values)` and `main(options, arguments)`, and, where they differ from none, `REQUIRED`
(names of flags), `ARGUMENTS` (how many positional ones it takes at most) and `INTERRUPTED` (what is
true whenever Ctrl-C ends it). A package groups commands, its `ACTIONS`.
"""

import ast
import contextlib
import difflib
import importlib
import importlib.util
import inspect
import io
import logging
import os
import re
import shutil
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from absl import app, flags

from deepconv import naming
from deepconv.exceptions import (
    INTERRUPTED,
    TRY_AGAIN,
    USER_ERROR,
    Interrupted,
    Preempted,
    UserError,
)

COMMANDS = (
    "train",
    "evaluate",
    "predict",
    "localize",
    "features",
    "saliency",
    "figures",
    "summary",
    "plan",
    "benchmark",
    "weights",
    "data",
)
FAULT = 1

_PACKAGE = "deepconv.commands"
_HELP = ("--help", "-help", "-h")
_WIDEST = 100  # columns of the help
_PLACEHOLDERS = {
    "string enum": "NAME",
    "int": "N",
    "float": "X",
    "comma separated list of strings": "A,B,...",
    "config object": "FILE[:VARIANT]",
}


class _Printable(logging.Formatter):
    """Messages without the controls that a file's name may have; those of a table have lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return "\n".join(map(naming.one_line, super().formatMessage(record).split("\n")))


def start(argv: Sequence[str]) -> NoReturn:
    """Run a command and exit.

    The status is 0, 1 for a fault of ours, 2 for one of the user's, 75 where the same command is
    to be started again, 130 after Ctrl-C.

    Args:
      argv: the command's name, its flags and arguments.
    """
    _accept_any_name()
    try:
        command, rest = _chosen(argv)
        if _asks_for_help(rest):
            print(usage(command))
            sys.exit()
    except UserError as error:
        fail(str(error))
    except BrokenPipeError as error:  # as of `deepconv | head`
        fail(str(error.strerror))
    except KeyboardInterrupt:
        _leave_interrupted("interrupted")
    # What libraries define is parsed from an empty command line: our flags are not among them.
    _execute(
        lambda _: command.main(*parse(command, rest)),
        argv=sys.argv[:1],
        interrupted=getattr(command, "INTERRUPTED", "interrupted"),
    )


def run(main: Callable[[Sequence[str]], None]) -> NoReturn:
    """Run a script whose flags are absl's global ones, and exit as `start` does.

    Args:
      main: is given the script's name.
    """
    _accept_any_name()

    def parsed(argv: list[str]) -> Sequence[str]:
        try:
            _, *rest = _parsed(flags.FLAGS, argv)
            if rest:
                raise UserError(f"unexpected argument {rest[0]!r}; flags begin with --")
        except UserError as error:
            fail(str(error))
        return argv[:1]

    _execute(main, argv=sys.argv, flags_parser=parsed, interrupted="interrupted")


def parse(command: ModuleType, argv: Sequence[str]) -> tuple[flags.FlagValues, list[str]]:
    """Return a command's flags and its positional arguments.

    Args:
      command: a module of `deepconv.commands`.
      argv: what stands after its name.

    Raises:
      UserError: if a flag is unknown, missing or wrong, or there are too many arguments.
    """
    values = flags.FlagValues()
    command.define_flags(values)
    _, *arguments = _parsed(values, ["deepconv", *argv])
    missing = [f"--{name}" for name in _required(command) if values[name].value is None]
    if missing:
        raise UserError(
            f"missing {', '.join(missing)}; deepconv {_name(command)} --help lists the flags"
        )
    most = getattr(command, "ARGUMENTS", 0)
    if len(arguments) > most:
        raise UserError(f"unexpected argument {arguments[most]!r}; flags begin with --")
    return values, arguments


def usage(command: ModuleType) -> str:
    """Return a command's synopsis and its flags, the required ones first."""
    values = flags.FlagValues()
    command.define_flags(values)
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    required = _required(command)
    lines = [inspect.getdoc(command) or "", "", "Flags:"]
    for name in (*required, *(name for name in sorted(values) if name not in required)):
        flag: flags.Flag[Any] = values[name]
        mark = "  (required)" if name in required else ""
        lines.append(f"  {_written(flag)}{mark}")
        indent = " " * 6
        lines += textwrap.wrap(
            _described(flag), width, initial_indent=indent, subsequent_indent=indent
        )
    return "\n".join(lines)


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


def define_weights(values: flags.FlagValues) -> None:
    """Define --weights and --checkpoint, of the commands that use a trained network."""
    flags.DEFINE_string(
        "weights", None, "The folder of a run, or a file of weights.", flag_values=values
    )
    define_checkpoint(values)


def define_checkpoint(values: flags.FlagValues) -> None:
    """Define --checkpoint alone."""
    flags.DEFINE_enum(
        "checkpoint",
        "last",
        ["last", "best"],
        "Which of a run's parameters: those of its last step, or of its best evaluation.",
        flag_values=values,
    )


def define_json(values: flags.FlagValues, what: str) -> None:
    """Define --json, of the commands that measure.

    Args:
      values: the command's flags.
      what: is written, such as "the table".
    """
    flags.DEFINE_string("json", None, f"Also write {what} to this .json file.", flag_values=values)


def define_protocol(values: flags.FlagValues) -> None:
    """Define --protocol and --scales, of the commands that classify."""
    # It imports jax, which not every command needs.
    from deepconv.evaluation.protocols import PROTOCOLS

    flags.DEFINE_enum(
        "protocol", "dense", [*PROTOCOLS], "How images are looked at.", flag_values=values
    )
    flags.DEFINE_list(
        "scales",
        [],
        "The shorter sides Q in pixels, such as 256,384,512; by default the network's own.",
        flag_values=values,
    )


def define_data_dir(values: flags.FlagValues) -> None:
    """Define --data_dir, of the commands that prepare or check data sets."""
    flags.DEFINE_string(
        "data_dir",
        "",
        "The folder of all data sets; by default $TFDS_DATA_DIR, else tfds' own.",
        flag_values=values,
    )


def define_threads(values: flags.FlagValues) -> None:
    """Define --threads, of the commands that decode many images."""
    flags.DEFINE_integer(
        "threads", 0, "How many decode; 0: one for each core.", 0, flag_values=values
    )


def output_file(options: flags.FlagValues, flag: str, ending: str) -> Path | None:
    """Return the file to write that a flag names, if it is set.

    Args:
      options: the command's flags.
      flag: its name.
      ending: that the file must have, such as ".png".

    Raises:
      UserError: if it has another, or lies in no folder that exists.
    """
    value = options[flag].value
    if value is None:
        return None
    path = Path(value)
    if path.suffix != ending or not path.absolute().parent.is_dir():
        raise UserError(f"--{flag}={path} is not a {ending} file in a folder that exists")
    return path


def whole_numbers(options: flags.FlagValues, flag: str) -> tuple[int, ...]:
    """Return what a flag lists, such as --scales=256,384.

    Raises:
      UserError: if one of them is not a whole number.
    """
    value: list[str] = getattr(options, flag)
    try:
        return tuple(map(int, value))
    except ValueError:
        raise UserError(f"--{flag}={','.join(value)} are not whole numbers") from None


def _chosen(argv: Sequence[str]) -> tuple[ModuleType, Sequence[str]]:
    """Return the command that is meant, and what stands after its name.

    Exits where a list of commands is what is asked for.

    Raises:
      UserError: if there is no such command.
    """
    path, names, what = _PACKAGE, COMMANDS, "command"
    while True:
        if not argv or argv[0] in _HELP:
            print(_listed(path, names))
            sys.exit()
        word, argv = argv[0], argv[1:]
        if word not in names:
            near = difflib.get_close_matches(word, names, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
            raise UserError(f"unknown {what} {word!r}; {hint}")
        path = f"{path}.{word.replace('-', '_')}"
        module = importlib.import_module(path)
        if not hasattr(module, "ACTIONS"):
            return module, argv
        names, what = module.ACTIONS, f"action of deepconv {word}:"


def _listed(path: str, names: Sequence[str]) -> str:
    """Return a list of commands, a line each: the first of a module's docstring."""
    words = _words(path)
    about = importlib.import_module(path if words else "deepconv").__doc__ or ""
    widest = max(map(len, names))
    lines = [about.split("\n")[0], ""]
    for name in names:
        # Read, not imported: some of them import all that trains.
        spec = importlib.util.find_spec(f"{path}.{name.replace('-', '_')}")
        assert spec is not None
        assert spec.origin is not None
        text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
        lines.append(f"  {name:{widest}}  {text.split(chr(10))[0]}")
    usage = " ".join(["deepconv", *words, "ACTION" if words else "COMMAND", "--help"])
    return "\n".join([*lines, "", f"{usage} describes one of them and lists its flags."])


def _words(path: str) -> list[str]:
    return path.removeprefix(_PACKAGE).replace("_", "-").split(".")[1:]


def _name(command: ModuleType) -> str:
    return " ".join(_words(command.__name__))


def _required(command: ModuleType) -> tuple[str, ...]:
    required: tuple[str, ...] = getattr(command, "REQUIRED", ())
    return required


def _asks_for_help(argv: Sequence[str]) -> bool:
    flags_alone = argv[: argv.index("--")] if "--" in argv else argv
    return any(argument in _HELP for argument in flags_alone)


def _written(flag: flags.Flag[Any]) -> str:
    if flag.boolean:
        return f"--[no]{flag.name}"
    return f"--{flag.name}={_PLACEHOLDERS.get(flag.flag_type(), '...')}"


def _described(flag: flags.Flag[Any]) -> str:
    # Of an enumeration absl puts the values first.
    parts = [re.sub(r"^<.*?>: ", "", flag.help or "")]
    if isinstance(flag.parser, flags.EnumParser):
        parts.append(f"One of {', '.join(flag.parser.enum_values)}.")
    default: Any = flag.default
    if default:
        parts.append(f"Default: {','.join(default) if isinstance(default, list) else default}.")
    return " ".join(parts)


def _parsed(values: flags.FlagValues, argv: Sequence[str]) -> Sequence[str]:
    """Parse flags.

    Raises:
      UserError: saying what is wrong with them.
    """
    if "config" in values:
        # Only commands with a config need what reads it.
        from deepconv.commands import config_file

        config_file.prepare(values["config"], argv)
    try:
        return values(argv)
    except flags.UnrecognizedFlagError as error:
        near = difflib.get_close_matches(error.flagname, list(values), 1)
        hint = f"did you mean --{near[0]}?" if near else "--help lists them"
        raise UserError(f"there is no flag --{error.flagname}; {hint}") from None
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(str(error)) from None


def _accept_any_name() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=naming.ERRORS)


def _execute(
    main: Callable[[Sequence[str]], None],
    *,
    argv: Sequence[str],
    interrupted: str,
    flags_parser: Callable[[list[str]], Sequence[str]] = app.parse_flags_with_usage,
) -> NoReturn:
    """Call `main`, and exit with the status and the line that say how it ended."""
    # Libraries report every stage of their work; what matters of it, our own loggers say.
    ours = logging.getLogger("deepconv")
    ours.setLevel(logging.INFO)
    ours.propagate = False
    handler = logging.StreamHandler()
    handler.setFormatter(_Printable())
    ours.handlers = [handler]

    def guarded(argv: Sequence[str]) -> None:
        # Orbax logs an error in writing several times, with tracebacks, before raising it.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        # After a failed write, the other writes of the same save are reported once more at exit.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", message="coroutine .* was never awaited")
        logging.getLogger().setLevel(logging.ERROR)
        sys.unraisablehook = _without_echoes
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
        app.run(guarded, argv=list(argv), flags_parser=flags_parser)
    except KeyboardInterrupt as error:
        # It may have come while a run that had been told to stop was ending.
        saved: BaseException | None = error
        while saved is not None and not isinstance(saved, Interrupted | Preempted):
            saved = saved.__context__
        _leave_interrupted(str(saved or interrupted))


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
            "another process of this run has ended, see its output; run the same commands to "
            f"resume from the last checkpoint ({str(error).splitlines()[0][:200]})",
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
