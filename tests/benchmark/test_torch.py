"""The twin in PyTorch: the same scores, the same update, or the comparison compares nothing."""

import jax
import numpy as np
import pytest

from configs import alexnet
from deepconv import models, parallel
from deepconv.benchmark import programs

torch = pytest.importorskip("torch")

from experiments import torch_network, torch_peer  # noqa: E402


def twin(model, params):
    network = torch_network.create(model.layers, model.crop)
    torch_network.load(network, model.layers, params)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("alexnet", {"width": 1 / 16, "crop": 67}),  # groups, LRN within towers, far padding
        ("alexnet_owt", {"width": 1 / 16, "crop": 64}),
        ("vgg_a_lrn", {"width": 1 / 32, "crop": 64}),  # fc6 spans 2x2
        ("vgg_c", {"width": 1 / 32, "crop": 32}),
        ("cifar10_11pct", {}),
    ],
)
def test_scores_are_ours(name, options):
    model = models.create(name, 7, **options)
    rng = np.random.default_rng(0)
    images = rng.normal(0, 50, (2, model.crop, model.crop, 3)).astype(np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images[:1])["params"]
    params = jax.tree.map(lambda x: rng.normal(0, 0.1, x.shape).astype(np.float32), shapes)
    ours = np.asarray(jax.jit(model.apply)({"params": params}, images))[:, 0, 0]
    with torch.no_grad():
        theirs = twin(model, params)(torch.tensor(images).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4 * np.abs(ours).max())


def prepare(variant, changes):
    config = alexnet.get_config(variant)
    config.update_from_flattened_dict(
        {"model.width": 1 / 32, "train.batch_size": 4, "input.mean": "image", **changes}
    )
    mesh = parallel.data_mesh(jax.devices()[:1])
    return programs.prepare(config, num_classes=7, mesh=mesh)


@pytest.fixture(scope="module")
def exact():
    """Return what nothing random has a part in; biases have another rate and no decay."""
    return prepare("caffe,tiny", {"model.dropout": 0.0, "augment.flip": False})


@pytest.fixture(scope="module")
def state(exact):
    return jax.device_get(exact.functions.initial_state())


def peer_of(subject, params, mode):
    return torch_peer.Peer(subject, params, torch_peer.MODES[mode], torch_peer.use_device(1))


def test_the_update_and_the_errors_are_ours(exact, state):
    program = programs.compile_training(exact)
    updated, metrics = program.call(jax.device_put(state, exact.functions.placement), exact.batch)
    exact.config.train.microbatches = 2
    peer = peer_of(exact, state.params, "torch eager, channels last")
    loss, top1, _ = peer.evaluate()
    assert loss.item() / 4 == pytest.approx(float(metrics["loss"]), rel=1e-5)
    assert top1.item() / 4 == float(metrics["top1_error"])
    # The first update is the same by PyTorch's rule and by the papers'.
    peer.train()
    before = twin(exact.functions.model, state.params).state_dict()
    after = twin(exact.functions.model, jax.device_get(updated.params)).state_dict()
    for name, value in peer.network.state_dict().items():
        ours, theirs = after[name] - before[name], value - before[name]
        assert (theirs - ours).abs().max() <= 1e-3 * ours.abs().max(), name


def test_flip_jitter_and_dropout(state):
    subject = prepare("tiny", {"train.batch_size": 64})
    peer = peer_of(subject, state.params, "torch eager")
    plain = peer._centered(peer.batch)
    mirrored = 0
    for image, original in zip(peer._augmented(plain), plain, strict=True):
        # The jitter moves all pixels of an image alike.
        alike = [(image - x).flatten(1).std(1).max() < 1e-3 for x in (original, original.flip(2))]
        assert sum(alike) == 1
        mirrored += alike[1]
    assert 10 < mirrored < 54
    ones = torch.ones(2, 1000)
    assert set(peer.network.train().drop6(ones).unique().tolist()) == {0.0, 1.0}
    assert (peer.network.eval().drop6(ones) == 0.5).all()


def test_what_does_not_compile_is_named(exact, state, monkeypatch):
    def compile_nothing(function, **_):
        def call(*_):
            raise RuntimeError("no C++ compiler\nmore of it")

        return call

    monkeypatch.setattr(torch, "compile", compile_nothing)
    device = torch_peer.use_device(1)
    made, failures = torch_peer.contenders(exact, state.params, ["forward"], device)
    assert [*made] == ["forward, torch eager", "forward, torch eager, channels last"]
    assert set(failures) == {"forward, torch compile", "forward, torch compile, channels last"}
    assert set(failures.values()) == {"RuntimeError: no C++ compiler"}
