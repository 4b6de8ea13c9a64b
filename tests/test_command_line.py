"""What commands share: how a config's file is read, and how they end."""

import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from deepconv.commands import command_line
from deepconv.exceptions import UserError

CONFIG = """from deepconv.config import default


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
        monkeypatch.setattr(sys, "argv", ["main", f"--config=mine.py{variant}", *arguments])
        return command_line.ConfigFile().parse(f"mine.py{variant}")

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
        ("from deepconv.config import nothing", "ImportError: cannot import name 'nothing'"),
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
            command_line.ConfigFile().parse(f"{path}:tiny")


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
        ("--config.xyz=1", "there are augment, checkpoint"),
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


PROGRAM = """
from deepconv import command_line
from deepconv.user_error import Interrupted, Preempted

def main(_):
    print("a result")
    {body}

command_line.run(main, {options})
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "options", "status", "said"),
    [
        ("raise KeyboardInterrupt", "", 130, "interrupted"),
        ("raise KeyboardInterrupt", "interrupted='all is kept'", 130, "all is kept"),
        ("raise Interrupted('saved at step 3')", "", 130, "saved at step 3"),
        ("raise Preempted('saved at step 3')", "", 75, "saved at step 3"),
        (
            "try: raise Interrupted('saved at step 3')\n    finally: raise KeyboardInterrupt",
            "interrupted='nothing is kept'",
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
