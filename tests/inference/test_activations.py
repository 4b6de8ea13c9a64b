"""Features by layer name: those of the whole network, on images of any size, and no more of it."""

import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepconv.inference import activations, model


@pytest.fixture(scope="module")
def net(narrow_file):
    return model.open_model(narrow_file)


def random_images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.slow
def test_outputs_are_the_whole_networks_for_any_size(net):
    look = activations.extractor(net, ["relu3_2", "conv1_1", "pool5", "fc7"])
    for images in (random_images(2, 32, 32, 3), random_images(1, 40, 67, 3)):
        outputs = look(images)
        assert [*outputs] == ["relu3_2", "conv1_1", "pool5", "fc7"]
        whole = net.network.apply(
            {"params": net.params},
            images - net.colors.mean_rgb.astype(np.float32),
            method="activations",
        )
        for name, output in outputs.items():
            assert output.dtype == jnp.float32
            np.testing.assert_allclose(output, whole[name], rtol=1e-5, atol=1e-4)


def test_nothing_behind_the_last_layer_is_computed_or_needed(net):
    assert activations.cut(net.network, ["relu2_1", "conv1_1"]).layers[-1].name == "relu2_1"
    assert activations.cut(net.network, ["fc8"]) == net.network
    first = {name: net.params[name] for name in ("conv1_1", "conv2_1")}
    look = activations.extractor(net._replace(params=first), ["relu2_1"])
    assert look(random_images(1, 8, 9, 3))["relu2_1"].shape == (1, 4, 4, 2)  # too small for fc6


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["relu9_9"], r"no layer 'relu9_9'; the layers are conv1_1, relu1_1"),
        ([], "no layer is given"),
    ],
)
def test_a_layer_that_is_not_there(net, layers, message):
    with pytest.raises(ValueError, match=message):
        activations.extractor(net, layers)


@pytest.mark.slow
def test_the_examples_of_the_docstring(net):
    indented = [part for part in activations.__doc__.split("\n\n") if part.startswith("    ")]
    code = textwrap.dedent("\n\n".join(indented))
    assert "style_loss" in code
    images, style = (jnp.asarray(random_images(1, n, 30, 3), jnp.float32) for n in (40, 50))
    space = {
        "activations": activations, "model": net, "jax": jax, "jnp": jnp,
        "images": images, "style": style,
    }  # fmt: skip
    exec(code, space)
    assert space["step"].shape == images.shape
    assert jnp.abs(space["step"]).max() > 0
    assert space["style_loss"](style, style) == 0
    near, far = images + 4.0, jnp.flip(images, axis=1)
    assert 0 < space["distance"](images, near) < space["distance"](images, far)


def test_the_command_writes_features_of_central_crops(net, narrow_file, photos, tmp_path, run_main):
    out = tmp_path / "x.npz"
    (photos / "aa.jpg").write_bytes((photos / "a.jpg").read_bytes()[:700])
    process = run_main(
        "features", f"--weights={narrow_file}", "--layer=relu7,pool5", f"--out={out}", photos
    )
    assert process.stdout == f"{out}: relu7 3x1x1x64, pool5 3x1x1x8\n"
    assert process.returncode == 2
    assert process.stderr.startswith(f"deepconv: {photos}/aa.jpg cannot be read as a picture")
    arrays = np.load(out)
    assert [name[len(str(photos)) :] for name in arrays["image_ids"]] == [
        "/a.jpg",
        "/b.png",
        "/more/c.JPG",
    ]
    crops = activations.of_central_crops(
        net, [{"image": (photos / "b.png").read_bytes(), "label": 0}], ["relu7"]
    )
    np.testing.assert_allclose(arrays["relu7"][1], crops.outputs["relu7"][0], rtol=1e-5, atol=1e-5)
    mean = net.central_mean
    look = net.network.apply({"params": net.params}, crops.images - mean, method="activations")
    np.testing.assert_allclose(crops.outputs["relu7"], look["relu7"], rtol=1e-5, atol=1e-5)


def test_bad_input_is_one_line(narrow_file, photos, tmp_path, run_main):
    given = (f"--weights={narrow_file}", "--layer=fc9", f"--out={tmp_path}/x.npz", photos)
    process = run_main("features", *given)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith("deepconv: --layer: there is no layer 'fc9'; the layers are")
    assert process.stderr.count("\n") == 1
