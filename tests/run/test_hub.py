"""Weights on the hub: a local server has its interface, and real processes ask it."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import deepconv
from deepconv.commands import command_line
from deepconv.commands import weights as weights_command
from deepconv.exceptions import UserError
from deepconv.run import hub
from deepconv.run.hub import Address
from tests.conftest import GOLDEN
from tests.faults.processes import PATIENCE_SECONDS, environment_of
from tests.run.hub_server import serving

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("huggingface_hub") is None, reason="huggingface_hub is not installed"
)
ONE = (
    "import sys; from deepconv.run import hub; from deepconv.exceptions import UserError\n"
    "for name in sys.argv[1:]:\n"
    "    try: print(hub.located(name))\n"
    "    except UserError as error: print('ERROR', error)"
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hf:timm/vgg16.tv_in1k", Address("timm/vgg16.tv_in1k", "main", None)),
        ("hf:me/x@v1.0", Address("me/x", "v1.0", None)),
        ("hf:me/x@abc/sub/y.pth", Address("me/x", "abc", "sub/y.pth")),
    ],
)
def test_addresses(text, address):
    assert Address.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text", ["hf:", "hf:vgg16", "hf:a/b c", "hf:a/b/../c", "hf:a/b@", "hf:/a/b"]
)
def test_what_is_no_address(text):
    with pytest.raises(UserError, match=r"is not of the form hf:OWNER/NAME\[@REVISION\]\[/FILE\]"):
        Address.parse(text)


def test_a_path_is_a_path_and_knows_whether_it_is_in_the_cache():
    assert hub.located("runs/x") == Path("runs/x")
    cached = Path("/h/hub/models--timm--vgg16.tv_in1k/snapshots/abc/sub/model.safetensors")
    assert hub.name_of(cached) == "vgg16.tv_in1k"
    assert hub.name_of(Path("models--a--b/x.safetensors")) is None


def test_without_the_library_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"needs the package huggingface_hub: pip install"):
        deepconv.load_model("hf:timm/vgg16.tv_in1k")


@pytest.fixture
def ask(tmp_path):
    """Return a function that a process of its own evaluates: the paths, or the errors, of names."""

    def ask(url, *names, code=ONE, **environment):
        process = subprocess.run(
            [sys.executable, "-c", code, *names],
            env={
                **environment_of(devices=1),
                "HF_ENDPOINT": url,
                "HF_HOME": str(tmp_path / "cache"),
                "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                **environment,
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert not process.returncode, process.stderr
        return process.stdout.splitlines()

    return ask


FILE = (GOLDEN / "vgg11.pth").read_bytes()


@needs_library
@pytest.mark.slow
def test_a_file_is_downloaded_once_and_used_without_a_network(ask):
    files = {"main": {"README.md": b"", "model.safetensors": b"new", "pytorch_model.bin": b"x"}}
    files["v1"] = {"old.pth": FILE, "sub/other.bin": b"other"}
    with serving({"me/net": files}) as server:
        names = ("hf:me/net", "hf:me/net@v1", "hf:me/net@v1/sub/other.bin")
        first = ask(server.url, *names)
        assert [Path(path).read_bytes() for path in first] == [b"new", FILE, b"other"]
        assert server.served == ["model.safetensors", "old.pth", "sub/other.bin"]
        assert ask(server.url, *names) == first
        assert len(server.served) == 3
        url = server.url
    for environment in ({}, {"HF_HUB_OFFLINE": "1"}):  # the server has gone
        assert ask(url, *names[:2], **environment) == first[:2]
        (error,) = ask(url, "hf:me/other", **environment)
        assert error.startswith("ERROR cannot download hf:me/other, and it is not in the cache: ")
    Path(first[0]).resolve().write_bytes(b"neW")
    (error,) = ask(url, names[0], HF_HUB_OFFLINE="1")
    assert error.startswith("ERROR hf:me/net is damaged: its hash is not the hub's; delete ")


@needs_library
@pytest.mark.slow
def test_each_failure_is_one_line(ask):
    repos = {
        "me/several": {"main": {"a.safetensors": b"a", "b.safetensors": b"b"}},
        "me/text": {"main": {"README.md": b"x"}},
        "me/bad": {"main": {"model.safetensors": b"abc"}},
        "me/gated": {"main": {"model.safetensors": b"abc"}},
    }
    with serving(repos) as server:
        server.gated.add("me/gated")
        server.altered.add("model.safetensors")
        expected = {
            "hf:me/none": "cannot download hf:me/none: there is no such repository, or",
            "hf:me/text@v9": "cannot download hf:me/text@v9: there is no such revision",
            "hf:me/text/x.pth": "cannot download hf:me/text/x.pth: there is no such file in it",
            "hf:me/gated": "cannot download hf:me/gated: access is granted by its owner only",
            "hf:me/text": "hf:me/text has no weights file; known endings are .safetensors, .pth",
            "hf:me/several": "hf:me/several has several weights files, a.safetensors, "
            "b.safetensors; name one: hf:me/several/a.safetensors",
            "hf:me/bad": "hf:me/bad is damaged: its hash is not the hub's; delete ",
        }
        lines = ask(server.url, *expected)
    assert len(lines) == len(expected)
    for line, start in zip(lines, expected.values(), strict=True):
        assert line.startswith(f"ERROR {start}"), line


@needs_library
@pytest.mark.slow
def test_what_is_pushed_has_a_card_and_comes_back(ask, narrow_run, narrow_file, tmp_path):
    code = "from deepconv import __main__; __main__.main()"
    with serving({}) as server:
        arguments = ("weights", "push", str(narrow_run), "--license=mit")
        ask(server.url, *arguments, "--to=me/narrow", code=code, HF_TOKEN="hf_x")
        sent = server.sent["me/narrow"]
        assert {*sent} == {"README.md", "model.safetensors"}
        ask(
            server.url, "weights", "push", str(narrow_file), "--to=me/f", code=code, HF_TOKEN="hf_x"
        )
        assert server.sent["me/f"]["model.safetensors"] == narrow_file.read_bytes()
    (tmp_path / "x.safetensors").write_bytes(sent["model.safetensors"])
    there, here = deepconv.load_model(tmp_path / "x.safetensors"), deepconv.load_model(narrow_run)
    np.testing.assert_array_equal(there.params["fc8"]["kernel"], here.params["fc8"]["kernel"])
    card = sent["README.md"].decode()
    result = json.loads((narrow_run / "result.json").read_text())
    assert card.startswith('---\nlicense: "mit"\nlibrary_name: "deepconv"\n')
    for text in (
        'deepconv.load_model("hf:me/narrow")',
        "last checkpoint, center crop, Q=36, shapes",
        f"{100 * result['last']['top1_error']:.2f}",
        "optimizer.learning_rate = ",
        ", ".join(here.labels[:2]),
    ):
        assert text in card
    assert str(narrow_run.parent) not in card


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("push", "x"), r"push needs --to=OWNER/NAME"),
        (
            ("push", str(GOLDEN / "vgg11.pth"), "--to=a/b"),
            "convert it with deepconv weights import",
        ),
    ],
)
def test_what_cannot_be_pushed(arguments, message):
    with pytest.raises(UserError, match=message):
        weights_command.main(*command_line.parse(weights_command, list(arguments)))
