"""PyTorch's files: every activation is PyTorch's, and nothing in a pickle is executed."""

import argparse
import collections
import importlib.util
import os
import pickle
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest

from deepconv.exceptions import UserError
from deepconv.weights import torch_file
from tests.weights import files

GOLDEN = Path(__file__).parent / "golden"
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="PyTorch is not installed"
)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg11", "alexnet"])
def test_activations_are_those_that_pytorch_computed_once(name, assert_parity):
    arrays = dict(np.load(GOLDEN / f"{name}.npz"))
    pixels = arrays.pop("pixels")
    assert_parity(GOLDEN / f"{name}.pth", pixels, arrays)


@needs_torch
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("alexnet", "archive"),
        ("vgg11", "pickles"),
        ("vgg13", "checkpoint"),
        ("vgg16", "safetensors"),
        ("vgg16", "half"),
        ("vgg19", "timm"),
        ("vgg11_bn", "archive"),
        ("vgg13_bn", "timm"),
        ("vgg16_bn", "namespace"),
    ],
)
def test_activations_are_pytorchs(name, form, tmp_path, assert_parity):
    import safetensors.torch
    import torch

    from tests.weights import torch_nets

    crop = 96 if name == "alexnet" else 64
    net = torch_nets.create(name, width=1 / 32, side=2, classes=7, seed=0)
    if form == "half":
        net = net.half().float()
    state = net.state_dict()
    path, dialect = tmp_path / "net.pth", "torchvision"
    match form:
        case "archive":
            torch.save(state, path)
        case "pickles":
            torch.save(state, path, _use_new_zipfile_serialization=False)
        case "checkpoint":  # as pytorch's ImageNet example saves it
            renamed = {f"module.{key}": value for key, value in state.items()}
            torch.save({"epoch": 3, "arch": name, "state_dict": renamed}, path)
        case "namespace":  # as torchvision's references and Lightning save it
            renamed = {f"model.{key}": value for key, value in state.items()}
            args = argparse.Namespace(lr=0.1, output=Path("x"))
            torch.save({"model": renamed, "args": args, "epoch": np.int64(3)}, path)
        case "safetensors":
            path = tmp_path / "net.safetensors"
            safetensors.torch.save_file(state, path)
        case "half":
            torch.save({key: value.half() for key, value in state.items()}, path)
        case "timm":
            dialect = "timm"
            torch.save(of_timm(state), path)
    pixels = np.random.default_rng(1).integers(0, 256, (2, crop, crop, 3), np.uint8)
    expected = torch_nets.activations(net, pixels)
    imported, _ = assert_parity(path, pixels, expected)
    assert imported.source.dialect == dialect


def of_timm(state):
    """Return a state dict as timm names it: the hidden layers are convolutions there."""
    names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2"}
    renamed = {}
    for key, value in state.items():
        layer, _, part = key.rpartition(".")
        renamed[f"{names.get(layer, layer.replace('classifier.6', 'head.fc'))}.{part}"] = value
    for layer, side in (("pre_logits.fc1", 2), ("pre_logits.fc2", 1)):
        weight = renamed[f"{layer}.weight"]
        renamed[f"{layer}.weight"] = weight.reshape(len(weight), -1, side, side)
    return renamed


@needs_torch
def test_views_of_a_storage_are_read_as_pytorch_has_them(tmp_path):
    import torch

    base = torch.arange(24.0).reshape(4, 6)
    views = {
        "transposed": base.T,
        "part": base[1:3, 2:5],
        "long": torch.arange(3),
        "one": base[2, 3],
    }
    for old in (False, True):
        torch.save(views, tmp_path / "views.pth", _use_new_zipfile_serialization=not old)
        found = torch_file.read(tmp_path / "views.pth")
        for name, view in views.items():
            np.testing.assert_array_equal(found[name], view.numpy())


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("archive", [True, False])
def test_code_in_a_pickle_is_refused_and_does_not_run(archive, tmp_path):
    mark = tmp_path / "it_ran"
    state = collections.OrderedDict({"features.0.weight": Malicious(str(mark))})
    path = tmp_path / "net.pth"
    if archive:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("net/data.pkl", pickle.dumps(state, protocol=2))
            file.writestr("net/byteorder", "little")
    else:
        header = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
        path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in (*header, state)))
    with pytest.raises(UserError, match=r"was refused: it refers to posix\.mkdir.*not executed"):
        torch_file.read(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(state, protocol=2))
    assert mark.exists()  # elsewhere it would have


def test_what_a_checkpoint_holds_besides_is_skipped_and_does_not_run(tmp_path):
    mark = tmp_path / "it_ran"
    state = {"features.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
    saved = {
        "epoch": 3,
        "best": np.float64(0.7),
        "args": argparse.Namespace(lr=0.1, where=Path("x"), other=argparse.Namespace()),
        "hook": Malicious(str(mark)),
        "counts": collections.Counter("aab"),
        "seen": {"a", "b"},
        "optimizer": {"state": {0: {"momentum_buffer": np.zeros(2)}}, "param_groups": []},
        "state_dict": collections.OrderedDict(state),
    }
    files.torch_archive(tmp_path / "net.pth", saved)
    found = torch_file.load(tmp_path / "net.pth")
    assert not mark.exists()
    np.testing.assert_array_equal(found.tensors["features.0.weight"], [[0, 1, 2], [3, 4, 5]])
    assert list(found.skipped) == [
        "epoch",
        "best (numpy._core.multiarray.scalar)",
        "args (argparse.Namespace)",
        "hook (posix.mkdir)",
        "counts (collections.Counter)",
        "seen (__builtin__.set)",
        "optimizer",
    ]


@pytest.mark.parametrize(
    ("wrapped", "skipped"),
    [
        (lambda state, _: state, ()),
        (lambda state, _: {"model": state}, ()),
        (lambda state, _: {"net": state, "epoch": 1}, ("epoch",)),
        (lambda state, other: {"model_state_dict": state, "ema": other}, ("ema",)),
        (lambda state, other: {"ema": other, "state_dict": state}, ("ema",)),
        (lambda state, _: {"model": {"state_dict": state, "n": 1}, "a": 2}, ("a", "n")),
        (lambda state, _: {**state, "epoch": 4}, ("epoch",)),
    ],
)
def test_the_one_state_dict_is_found(wrapped, skipped, tmp_path):
    state, other = ({"x.weight": np.full(2, value, np.float32)} for value in (1, 2))
    files.torch_archive(tmp_path / "net.pth", wrapped(state, other))
    found = torch_file.load(tmp_path / "net.pth")
    np.testing.assert_array_equal(found.tensors["x.weight"], [1, 1])
    assert found.skipped == skipped


def test_several_state_dicts_are_no_choice(tmp_path):
    state = {"x.weight": np.zeros(2, np.float32)}
    files.torch_archive(tmp_path / "net.pth", {"teacher": state, "student": state})
    with pytest.raises(UserError, match="has several state dicts, teacher, student: save one of"):
        torch_file.load(tmp_path / "net.pth")


def test_a_whole_model_is_refused_with_what_to_save(tmp_path):
    files.torch_archive(tmp_path / "net.pth", {"model": types.SimpleNamespace(x=np.zeros(2))})
    with pytest.raises(
        UserError,
        match=r"refers to types\.SimpleNamespace, which is not executed; save the state_dict\(\)",
    ):
        torch_file.load(tmp_path / "net.pth")


def test_a_pickle_cannot_alter_what_reads_it(tmp_path):
    named = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n"
    for state in (b"}X\x01\x00\x00\x00aK\x01s", b"N}X\x01\x00\x00\x00aK\x01s\x86"):
        with zipfile.ZipFile(tmp_path / "net.pth", "w") as file:
            file.writestr("net/data.pkl", named + state + b"b.")  # BUILD
        with pytest.raises(UserError, match=r"net\.pth is damaged, .* no attribute"):
            torch_file.read(tmp_path / "net.pth")


@pytest.mark.parametrize("name", ["vgg11", "alexnet"])
@pytest.mark.parametrize("kept", [0.2, 0.6, 0.999])
def test_a_truncated_file_is_one_line(name, kept, tmp_path):
    whole = (GOLDEN / f"{name}.pth").read_bytes()
    (tmp_path / "net.pth").write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(
        UserError, match=r"net\.pth is damaged, truncated, or not a PyTorch file"
    ) as error:
        torch_file.read(tmp_path / "net.pth")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ([1, 2], "does not contain a PyTorch state dict"),
        ({"epoch": 3}, "epoch is a int, not a tensor"),
    ],
)
def test_what_is_no_state_dict(saved, message, tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as file:
        file.writestr("net/data.pkl", pickle.dumps(saved, protocol=2))
    with pytest.raises(UserError, match=message):
        torch_file.read(tmp_path / "net.pth")
