"""The one command: its help, its flags, how a config's file is read, and how it ends."""

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import ConfigDict

from deepconv.commands import command_line, config_file, evaluate, figures, plan, summary, train
from deepconv.commands.data import resize
from deepconv.exceptions import UserError

ROOT = Path(__file__).parents[2]
CONFIG = """from deepconv.config.schema import default


def get_config(variant=""):
    config = default()
    {line}
    return config
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Return a function that reads a config's file as --config does, beside other arguments."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)

    def parse(text, variant="", arguments=()):
        (tmp_path / "mine.py").write_text(text)
        argv = ["deepconv", f"--config=mine.py{variant}", *arguments]
        return config_file.ConfigFile(argv).parse(f"mine.py{variant}")

    return parse


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("config.optimizer.lr = 0.1", "key lr; did you mean optimizer.learning_rate?"),
        ('config.optimizer["lr"] = 0.1', "key lr; did you mean optimizer.learning_rate?"),
        ('config.optimizer.update({"lr": 1})', "key lr; did you mean optimizer.learning_rate?"),
        ("config.seed = config.train.batchsize", "mean evaluation.batch_size or train.batch_size?"),
        ("config.optimiser.momentum = 0.5", "did you mean the section optimizer?"),
        ('config.seed = {"a": 1}["b c"]', "KeyError: 'b c'"),
        ("config.seed = [][3]", "IndexError: list index out of range"),
        ('config.seed = "x"', "TypeError: Could not override field 'seed'"),
        ('config.seed = int("x")', "ValueError: invalid literal"),
        ("config.seed = undefined", "NameError: name 'undefined' is not defined"),
        ("config.seed = = 1", "SyntaxError: invalid syntax"),
        ("from deepconv.config.schema import nothing", "ImportError: cannot import name 'nothing'"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ('open("/nowhere")', "FileNotFoundError: [Errno 2] No such file or directory: '/nowhere'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_an_error_in_a_config_is_one_line_with_its_place(read, line, words):
    with pytest.raises(UserError) as error:
        read(CONFIG.format(line=line))
    assert str(error.value).startswith("mine.py, line 6: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_an_error_in_a_config_beside_it_is_placed_there(read, tmp_path):
    (tmp_path / "base.py").write_text(CONFIG.format(line="config.seeds = 1"))
    sys.path.append(str(tmp_path))
    with pytest.raises(UserError, match=r"/base\.py, line 6: .* key seeds; did you mean seed\?"):
        read("import base\n\ndef get_config():\n    return base.get_config()\n")


@pytest.mark.parametrize(
    ("text", "variant", "words"),
    [
        ("x = 1", "", "mine.py has no function get_config"),
        ("def get_config(): pass", "", "get_config.. returns NoneType; it must return a config"),
        ("def get_config(): pass", ":tiny", "mine.py has no variants: leave out :tiny"),
        ("def get_config(variant): pass", "", "needs a variant: --config=mine.py:VARIANT"),
    ],
)
def test_a_file_that_gives_no_config_says_why(read, text, variant, words):
    with pytest.raises(UserError, match=words):
        read(text, variant)


def test_a_missing_file_is_named(tmp_path):
    for path in (tmp_path / "none.py", tmp_path):
        with pytest.raises(UserError, match=f"there is no config file {path}"):
            config_file.ConfigFile([]).parse(f"{path}:tiny")


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--config.optimizer.lr=0.1", "did you mean optimizer.learning_rate"),
        ("--config.optimizer.lr", "did you mean optimizer.learning_rate"),
        ("-config.optimiser.learning_rate=1", "did you mean optimizer.learning_rate"),
        ("--noconfig.augment.flips", "did you mean augment.flip"),
        ("--config.batch_size=8", "did you mean evaluation.batch_size or train.batch_size"),
        ("--config.model.widht=1", "did you mean model.width"),
        ("--config.input.scale[0]=56", "did you mean input.scale"),
        ("--config.xyz=1", "known keys: augment, checkpoint"),
    ],
)
def test_an_unknown_key_of_the_command_line_gets_the_nearest_name(read, argument, words):
    text = CONFIG.format(line="with config.unlocked(): config.model.width = 1.0")
    with pytest.raises(UserError, match=words) as error:
        read(text, arguments=[argument])
    assert str(error.value).startswith(f"{argument}: unknown config key ")


def test_a_sound_config_is_read_and_locked(read):
    text = CONFIG.format(line="config.seed = len(variant)")
    config = read(text, ":four", ["--config.optimizer.learning_rate=1", "--workdir=x"])
    assert isinstance(config, ConfigDict)
    assert config.seed == len("four")
    assert config.is_locked


@pytest.mark.parametrize("name", ["vgg_e", "vgg_e.py"])
def test_a_config_of_the_package_is_found_by_its_name_unless_a_file_is_meant(
    name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    if name == "vgg_e":
        assert config_file.find(name).samefile(ROOT / "configs" / "vgg_e.py")
    else:
        with pytest.raises(
            UserError, match=r"no config file .*; --config=vgg_e selects the package's"
        ):
            config_file.find(name)
    (tmp_path / name).write_text("")
    assert config_file.find(name) == tmp_path / name


@pytest.mark.parametrize(
    ("name", "words"),
    [("vgg_z", "did you mean vgg_"), ("mine", "choose from alexnet, cifar10, finetune, locali")],
)
def test_an_unknown_bare_name_gets_the_nearest_one_or_all(name, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^there is no config {name}; {words}"):
        config_file.find(name)


def test_a_copy_of_a_config_works_anywhere(read):
    text = (ROOT / "configs" / "vgg_e.py").read_text()
    config = read(text, ":256,tiny")
    assert config.model.name == "vgg_e"
    assert config.recipe.stage == "256"


def test_a_command_can_be_called_twice_in_one_process(tmp_path, capsys):
    for classes in (10, 20):
        summary.main(
            *command_line.parse(
                summary,
                [
                    *("--config", f"{ROOT}/configs/vgg_e.py:tiny", f"--classes={classes}"),
                    *(f"--config.model.width={1 / classes}", f"--json={tmp_path}/{classes}.json"),
                ],
            )
        )
        assert f", {classes} classes\n" in capsys.readouterr().out
        written = json.loads((tmp_path / f"{classes}.json").read_text())
        assert written["layers"][0]["kernel"][-1] == round(64 / classes)


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        (train, [], "missing --config; deepconv train --help lists the flags"),
        (train, ["--wrokdir=x"], "unknown flag --wrokdir; did you mean --workdir?"),
        (train, ["--zzz"], "unknown flag --zzz; --help lists the flags"),
        (summary, ["--classes=0"], "--classes=0: 0 is not a positive integer"),
        (figures, ["kernels"], "missing --weights; deepconv figures --help"),
        (figures, ["kernels", "labels", "--weights=x"], "unexpected argument 'labels'"),
        (resize, [], "missing --name; deepconv data resize --help"),
        (plan, ["--device=2"], "unknown flag --device; did you mean --devices?"),
        (plan, ["--devices=2"], "missing --config, --device_kind; deepconv plan --help"),
        (train, ["--config.seed=1", "--config=vgg_e"], "--config.seed=1 .* put it after --config"),
    ],
)
def test_what_is_wrong_with_flags_is_one_line(command, arguments, words):
    with pytest.raises(UserError, match=words) as error:
        command_line.parse(command, arguments)
    assert "\n" not in str(error.value)


def command_named(name):
    module = name.replace(" ", ".").replace("-", "_")
    return importlib.import_module(f"deepconv.commands.{module}")


def names_of_commands():
    for name in command_line.COMMANDS:
        module = importlib.import_module(f"deepconv.commands.{name}")
        for action in getattr(module, "ACTIONS", ()):
            yield f"{name} {action}"
        if not hasattr(module, "ACTIONS"):
            yield name


@pytest.mark.parametrize("name", [*names_of_commands()])
def test_help_shows_the_synopsis_and_the_required_flags_first(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "72")
    command = command_named(name)
    required = getattr(command, "REQUIRED", ())
    for flag in ("--help", "-h"):
        with pytest.raises(SystemExit) as end:
            command_line.start([*name.split(), flag])
        assert end.value.code is None
        text = capsys.readouterr().out
        assert text.startswith(command.__doc__.split("\n")[0])
        assert f"deepconv {name}" in text  # an example
        listed = text[text.index("\nFlags:\n") :].splitlines()[2:]
        assert max(map(len, listed)) <= 72
        named = [line for line in listed if line.startswith("  --")]
        marked = [line.endswith("(required)") for line in named]
        assert marked == [True] * len(required) + [False] * (len(named) - len(required))
        assert [line[4:].split("=")[0] for line in named[: len(required)]] == [*required]


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_alone_it_lists_the_commands(argv, capsys):
    with pytest.raises(SystemExit) as end:
        command_line.start(argv)
    assert end.value.code is None
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ")] == [*command_line.COMMANDS]
    assert max(map(len, lines)) <= 100
    with pytest.raises(SystemExit):
        command_line.start(["data", *argv])
    assert "  resize          Rewrite a prepared data set" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["trian"], "unknown command 'trian'; did you mean train?"),
        (["x"], "unknown command 'x'; choose from train, evaluate, predict, localize, features"),
        (["--config=vgg_e"], "unknown command '--config=vgg_e'; choose from train, "),
        (["data", "chekc"], "unknown deepconv data action 'chekc'; did you mean check?"),
    ],
)
def test_an_unknown_command_is_one_line(argv, line, capsys):
    with pytest.raises(SystemExit) as end:
        command_line.start(argv)
    assert end.value.code == 2
    out, said = capsys.readouterr()
    assert out == ""
    assert said.startswith(f"deepconv: {line}")
    assert said.count("\n") == 1


@pytest.mark.parametrize("name", [*names_of_commands()])
def test_one_vocabulary(name):
    command = command_named(name)
    values = flags.FlagValues()
    command.define_flags(values)
    assert not {*values} & {"which", "run", "path", "output"}
    assert ("workdir" in values) == (name == "train")
    measuring = {"train", "evaluate", "predict", "localize", "summary", "plan", "benchmark"}
    assert ("json" in values) == (name in measuring | {"data check", "data resize"})
    networks = {"evaluate", "predict", "features", "saliency", "figures"}
    assert ("weights" in values) == (name in networks)
    assert ("checkpoint" in values) == (name in networks | {"localize", "weights"})


@pytest.mark.slow
@pytest.mark.parametrize("argv", [["--help"], ["train", "-h"], ["summary", "--config=vgg_e"]])
def test_a_reader_that_has_exited_ends_the_command_quietly(argv):
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "deepconv", *argv],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (process.returncode, process.stderr) == (128 + signal.SIGPIPE, "")


def test_an_output_folder_must_not_look_like_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.json").mkdir()
    for value in (tmp_path / "e.npz", tmp_path / "E.NPZ", tmp_path / "file"):
        options, _ = command_line.parse(evaluate, [f"--out={value}"])
        with pytest.raises(UserError, match=f"^--out={value} must be a folder, not a file$"):
            evaluate.main(options, [])
    for value in (tmp_path / "vgg1.5", tmp_path / "folder.json"):
        options, _ = command_line.parse(evaluate, [f"--out={value}"])
        assert command_line.output_folder(options, "out") == value
    assert command_line.output_folder(command_line.parse(evaluate, [])[0], "out") is None


PROGRAM = """
import sys
from types import ModuleType
from deepconv.commands import command_line
from deepconv.exceptions import Interrupted, Preempted

def main(*_):
    print("a result")
    {body}

command = sys.modules["deepconv.commands.train"] = ModuleType("deepconv.commands.train")
command.define_flags, command.main = lambda values: None, main
{options}
command_line.start(["train"])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "options", "status", "said"),
    [
        ("raise KeyboardInterrupt", "", 130, "interrupted"),
        ("raise KeyboardInterrupt", "command.INTERRUPTED = 'all is kept'", 130, "all is kept"),
        ("raise Interrupted('saved at step 3')", "", 130, "saved at step 3"),
        ("raise Preempted('saved at step 3')", "", 75, "saved at step 3"),
        (
            "try: raise Interrupted('saved at step 3')\n    finally: raise KeyboardInterrupt",
            "command.INTERRUPTED = 'nothing is kept'",
            130,
            "saved at step 3",
        ),
    ],
)
def test_how_a_command_that_is_stopped_ends(body, options, status, said):
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body, options=options)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, process.stdout) == (status, "a result\n")
    assert process.stderr == f"deepconv: {said}\n"
