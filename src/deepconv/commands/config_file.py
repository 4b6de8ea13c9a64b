"""Load the config that --config selects: a Python file, or one of the package's configs."""

import difflib
import importlib.machinery
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from deepconv.exceptions import UserError

# A link to the checkout's configs, or the files in the wheel.
PACKAGED = Path(__file__).parents[1] / "configs"

_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)")


def define(values: flags.FlagValues) -> None:
    """Define --config, for commands that have one."""
    config_flags.DEFINE_config_file(
        "config",
        None,
        "A config of the package, such as vgg_e, or a Python file, such as configs/vgg_e.py, with "
        "an optional variant after a colon: vgg_e:tiny. --config.KEY=VALUE after it sets a key.",
        flag_values=values,
    )


def prepare(flag: Any, argv: Sequence[str]) -> None:
    """Make a flag that `define` defined parse its value with `ConfigFile`.

    Args:
      flag: the flag, from ml_collections.
      argv: the command line to parse.

    Raises:
      UserError: if a key is set before the config.
    """
    for argument in argv[1:]:
        if re.match(r"--?config(=|$)", argument):
            break
        if _OVERRIDE.match(argument):
            raise UserError(f"{argument} sets a config key; put it after --config=FILE")
    flag.parser = ConfigFile(argv)
    flag._sys_argv = argv  # ml_collections would look for set keys in sys.argv


def find(file: str) -> Path:
    """Return the config file for a path or for the bare name of one of the package's configs.

    Raises:
      UserError: if there is none.
    """
    path = Path(file).absolute()
    if path.is_file():
        return path
    names = sorted(each.stem for each in PACKAGED.glob("*.py"))
    if re.fullmatch(r"\w+", file) and not path.exists():
        if file in names:
            return PACKAGED / f"{file}.py"
        near = difflib.get_close_matches(file, names, 1)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(names)}"
        raise UserError(f"there is no config {file}; {hint} (for a file of your own, include .py)")
    hint = f"; --config={path.stem} selects the package's" if path.stem in names else ""
    raise UserError(f"there is no config file {path}{hint}")


class ConfigFile(flags.ArgumentParser[ConfigDict]):
    """Parses the value of --config.

    Args:
      argv: the command line; the keys that it sets are checked.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = argv

    def parse(self, argument: str) -> ConfigDict:
        """Return the locked config, after checking every key that the command line sets.

        Raises:
          UserError: with the file and, if known, the line.
        """
        # Imported after `find`: jax takes a second, and a missing file is reported without it.
        file, colon, variant = argument.partition(":")
        path = find(file)
        from deepconv.config.check import unknown_key
        from deepconv.config.schema import flattened

        # Lets a user's config import its neighbor as `configs.base` from any working directory.
        sys.path.append(str(path.parent.parent))
        try:
            config = _call(_module(path), file, variant if colon else None)
        except UserError:
            raise
        except Exception as error:  # a config is a program, and may raise anything
            raise UserError(_described(error, file, path)) from None
        if not isinstance(config, ConfigDict):
            raise UserError(
                f"{file}: get_config() returns {type(config).__name__}; it must return a config "
                "made from deepconv.config.schema.default()"
            )
        keys = {key for key, _ in flattened(config)} | {*config}
        for each in self._argv[1:]:
            if (override := _OVERRIDE.match(each)) and override[1] not in keys:
                raise UserError(f"{each}: {unknown_key(override[1], config)}")
        return config.lock()

    def flag_type(self) -> str:
        """Return the type's name, by which the help finds its placeholder."""
        return "config object"


def _module(path: Path) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader(f"config_{path.stem}", str(path))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module  # dataclasses look their module up here
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


def _described(error: Exception, file: str, path: Path) -> str:
    """Describe an error in a config file, or in one beside it, with its file and line."""
    from deepconv.config.check import unknown_key
    from deepconv.config.schema import default

    folder = path.resolve().parent
    if isinstance(error, SyntaxError):
        where, line, text = error.filename or file, error.lineno, error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        within = [frame for frame in frames if Path(frame.filename).resolve().parent == folder]
        where, line = (within[-1].filename, within[-1].lineno) if within else (file, None)
        text = str(error)
    if Path(where) == path:
        where = file
    place = f"{where}, line {line}" if line else where
    # ConfigDict's messages quote the key; some also list the whole section.
    key = re.search(r'Key "([^"]+)" does not exist', text) or re.fullmatch(
        r"""["'\\]+(\w+)["'\\]+(?:nDid you mean.*)?""", text
    )
    if isinstance(error, AttributeError | KeyError) and key:
        return f"{place}: {unknown_key(key[1], default())}"
    return f"{place}: {type(error).__name__}: {text}"
