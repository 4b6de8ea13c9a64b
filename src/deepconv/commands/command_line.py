"""The `deepconv` command: select a command, parse its flags, print help, set the exit status.

    command_line.start(["summary", "--config=vgg_e"])   # never returns
    summary.main(*command_line.parse(summary, ["--config=vgg_e"]))

A command is a module of `deepconv.commands`; its docstring is its help text. It has
`define_flags(values)` and `main(options, arguments)` and, optionally, `REQUIRED` (names of required
flags), `ARGUMENTS` (maximum number of positional arguments, by default 0) and `INTERRUPTED` (the
message after Ctrl-C). A package groups commands and lists them in `ACTIONS`.
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
import select
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
    "transfer",
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
CLOSED_PIPE = 128 + 13  # as if SIGPIPE had ended the process

_PACKAGE = "deepconv.commands"
_HELP = ("--help", "-help", "-h")
_WIDEST = 100  # columns of the help
_FILE_ENDINGS = (".npz", ".json", ".txt", ".csv", ".png")
_PLACEHOLDERS = {
    "string enum": "NAME",
    "int": "N",
    "float": "X",
    "comma separated list of strings": "A,B,...",
    "config object": "FILE[:VARIANT]",
}


class _Printable(logging.Formatter):
    """Escapes control characters, as in file names, except the line breaks of tables."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return "\n".join(map(naming.one_line, super().formatMessage(record).split("\n")))


def start(argv: Sequence[str]) -> NoReturn:
    """Run a command and exit.

    The exit status is 0 for success, 1 for a bug, 2 for a user error, 75 if the same command should
    be run again, 130 after Ctrl-C, and 141 if the reader of stdout has exited.

    Args:
      argv: the command's name, its flags and arguments.
    """
    _accept_any_name()
    try:
        command, rest = _chosen(argv)
        if _asks_for_help(rest):
            _print_help(usage(command))
    except UserError as error:
        fail(str(error))
    except KeyboardInterrupt:
        _leave_interrupted("interrupted")
    # absl parses only the flags that libraries define, so it gets an empty command line.
    _execute(
        lambda _: command.main(*parse(command, rest)),
        argv=sys.argv[:1],
        interrupted=getattr(command, "INTERRUPTED", "interrupted"),
    )


def run(main: Callable[[Sequence[str]], None]) -> NoReturn:
    """Run a script whose flags are absl's global ones, and exit as `start` does.

    Args:
      main: called with a list of only the script's name.
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
      argv: the command line after the command's name.

    Raises:
      UserError: if a flag is unknown, missing or invalid, or there are too many arguments.
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
    """Return a command's help: its docstring, then its flags, the required ones first."""
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
    """Print a one-line error message, and exit."""
    _say(naming.one_line(" ".join(message.split())))
    _exit(status)


def complain(lines: Sequence[str]) -> None:
    """Report unusable input, one line per problem, and exit if there is any.

    Commands call this after they have processed the usable input.
    """
    for line in lines:
        _say(naming.one_line(" ".join(line.split())))
    if lines:
        _exit(USER_ERROR)


def define_weights(values: flags.FlagValues) -> None:
    """Define --weights and --checkpoint, for commands that use a trained network."""
    flags.DEFINE_string(
        "weights",
        None,
        "A run's folder, a weights file, or one on the Hugging Face hub: "
        "hf:OWNER/NAME[@REVISION][/FILE].",
        flag_values=values,
    )
    define_checkpoint(values)


def define_checkpoint(values: flags.FlagValues) -> None:
    """Define --checkpoint alone."""
    flags.DEFINE_enum(
        "checkpoint",
        "last",
        ["last", "best"],
        "Which of a run's parameters: the last ones, or those with the lowest validation error.",
        flag_values=values,
    )


def define_json(values: flags.FlagValues, what: str) -> None:
    """Define --json, for commands that print results.

    Args:
      values: the command's flags.
      what: what is written, such as "the table".
    """
    flags.DEFINE_string("json", None, f"Also write {what} to this .json file.", flag_values=values)


def define_protocol(values: flags.FlagValues) -> None:
    """Define --protocol and --scales, for commands that classify."""
    # Imported here because it imports jax, which not every command needs.
    from deepconv.evaluation.protocols import PROTOCOLS

    flags.DEFINE_enum("protocol", "dense", [*PROTOCOLS], "The test protocol.", flag_values=values)
    define_scales(values)


def define_scales(values: flags.FlagValues) -> None:
    """Define --scales alone."""
    flags.DEFINE_list(
        "scales",
        [],
        "Shorter sides Q in pixels, such as 256,384,512; by default the network's own.",
        flag_values=values,
    )


def define_data_dir(values: flags.FlagValues) -> None:
    """Define --data_dir, for commands that prepare or check data sets."""
    flags.DEFINE_string(
        "data_dir",
        "",
        "The folder of all prepared data sets; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.",
        flag_values=values,
    )


def define_out_folder(values: flags.FlagValues) -> None:
    """Define --out, of the commands that keep what they compute in the runs' folders."""
    flags.DEFINE_string(
        "out",
        None,
        "Write everything to this folder instead of the runs' own.",
        flag_values=values,
    )


def define_threads(values: flags.FlagValues) -> None:
    """Define --threads, for commands that decode many images."""
    flags.DEFINE_integer(
        "threads", 0, "Number of decoding threads; 0 means one per core.", 0, flag_values=values
    )


def output_file(options: flags.FlagValues, flag: str, ending: str) -> Path | None:
    """Return the output file that a flag sets, or None if the flag is not set.

    Args:
      options: the command's flags.
      flag: the flag's name.
      ending: the required extension, such as ".png".

    Raises:
      UserError: if the extension is wrong or the file's folder does not exist.
    """
    value = options[flag].value
    if value is None:
        return None
    path = Path(value)
    if path.suffix != ending or not path.absolute().parent.is_dir():
        raise UserError(f"--{flag}={path} must be a {ending} file in an existing folder")
    return path


def output_folder(options: flags.FlagValues, flag: str) -> Path | None:
    """Return the output folder that a flag sets, or None if the flag is not set.

    The folder need not exist.

    Args:
      options: the command's flags.
      flag: the flag's name.

    Raises:
      UserError: if it is a file, or has the extension of one.
    """
    value = options[flag].value
    if not value:
        return None
    path = Path(value).absolute()
    if path.is_file() or (path.suffix.lower() in _FILE_ENDINGS and not path.is_dir()):
        raise UserError(f"--{flag}={value} must be a folder, not a file")
    return path


def whole_numbers(options: flags.FlagValues, flag: str) -> tuple[int, ...]:
    """Return the integers that a flag lists, such as --scales=256,384.

    Raises:
      UserError: if one of them is not a whole number.
    """
    value: list[str] = getattr(options, flag)
    try:
        return tuple(map(int, value))
    except ValueError:
        raise UserError(f"--{flag}={','.join(value)} must be whole numbers") from None


def terminal_width() -> int | None:
    """Return the columns that a table may have; None if it is not printed on a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _chosen(argv: Sequence[str]) -> tuple[ModuleType, Sequence[str]]:
    """Return the selected command and the command line after its name.

    Prints the list of commands and exits if that is what was requested.

    Raises:
      UserError: if there is no such command.
    """
    path, names, what = _PACKAGE, COMMANDS, "command"
    while True:
        if not argv or argv[0] in _HELP:
            _print_help(_listed(path, names))
        word, argv = argv[0], argv[1:]
        if word not in names:
            near = difflib.get_close_matches(word, names, 1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(names)}"
            raise UserError(f"unknown {what} {word!r}; {hint}")
        path = f"{path}.{word.replace('-', '_')}"
        module = importlib.import_module(path)
        if not hasattr(module, "ACTIONS"):
            return module, argv
        names, what = module.ACTIONS, f"deepconv {word} action"


def _listed(path: str, names: Sequence[str]) -> str:
    """Return a list of commands, each with the first line of its docstring."""
    words = _words(path)
    about = importlib.import_module(path if words else "deepconv").__doc__ or ""
    widest = max(map(len, names))
    lines = [about.split("\n")[0], ""]
    for name in names:
        # Parsed instead of imported: some commands import jax, which takes a second.
        spec = importlib.util.find_spec(f"{path}.{name.replace('-', '_')}")
        assert spec is not None
        assert spec.origin is not None
        text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
        lines.append(f"  {name:{widest}}  {text.split(chr(10))[0]}")
    usage = " ".join(["deepconv", *words, "ACTION" if words else "COMMAND", "--help"])
    return "\n".join([*lines, "", f"Run {usage} for a description and the flags."])


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
    # absl puts the values of an enumeration before the help text.
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
      UserError: if a flag is unknown or its value is invalid.
    """
    if "config" in values:
        # Imported here because not every command has a config.
        from deepconv.commands import config_file

        config_file.prepare(values["config"], argv)
    try:
        return values(argv)
    except flags.UnrecognizedFlagError as error:
        near = difflib.get_close_matches(error.flagname, list(values), 1)
        hint = f"did you mean --{near[0]}?" if near else "--help lists the flags"
        raise UserError(f"unknown flag --{error.flagname}; {hint}") from None
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
    """Call `main`, and exit with the status and the message that say how it ended."""
    # Libraries log too much; our own loggers report what matters.
    ours = logging.getLogger("deepconv")
    ours.setLevel(logging.INFO)
    ours.propagate = False
    handler = logging.StreamHandler()
    handler.setFormatter(_Printable())
    ours.handlers = [handler]

    def guarded(argv: Sequence[str]) -> None:
        # Orbax logs a failed write several times, with tracebacks, before raising the error.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        # After a failed write, asyncio reports the other writes of the same save again at exit.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", message="coroutine .* was never awaited")
        logging.getLogger().setLevel(logging.ERROR)
        sys.unraisablehook = _without_echoes
        try:
            main(argv)
            sys.stdout.flush()
        except UserError as error:
            fail(str(error))
        except OSError as error:
            if isinstance(error, BrokenPipeError) and _reader_has_exited():
                _exit(CLOSED_PIPE)
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
        # If a run that was told to stop was still ending, its own message says what it saved.
        saved: BaseException | None = error
        while saved is not None and not isinstance(saved, Interrupted | Preempted):
            saved = saved.__context__
        _leave_interrupted(str(saved or interrupted))


def _without_echoes(echo: "sys.UnraisableHookArgs") -> None:
    # After a failed write, tensorstore's threads report to orbax's event loop, which has closed.
    if str(echo.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(echo)


def _is_one_of_several() -> bool:
    # Looked up, not imported: jax takes a second to import, and not every command needs it.
    return "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized()


def _leave(error: Exception) -> NoReturn:
    from deepconv import parallel

    if parallel.tells_of_a_lost_process(error):
        fail(
            "another process of this run has ended (see its output); run the same commands to "
            f"resume from the last checkpoint: {str(error).splitlines()[0][:200]}",
            TRY_AGAIN,
        )
    traceback.print_exception(error)
    os._exit(FAULT)


def _leave_interrupted(message: str) -> NoReturn:
    _say(message)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(INTERRUPTED)  # without waiting for threads that decode or write


def _print_help(text: str) -> NoReturn:
    with contextlib.suppress(BrokenPipeError):
        print(text, flush=True)
        sys.exit()
    _exit(CLOSED_PIPE)


def _exit(status: int) -> NoReturn:
    try:
        sys.stdout.flush()
    except OSError:
        # Python flushes again at exit, and would report the same error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if _is_one_of_several():
        # A normal exit would wait for the other processes, which may be waiting for this one.
        os._exit(status)
    sys.exit(status)


def _reader_has_exited() -> bool:
    """Return whether stdout is a pipe that nobody reads, as after `deepconv summary | head`."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))


def _say(message: str) -> None:
    print(f"deepconv: {message}", file=sys.stderr, flush=True)
