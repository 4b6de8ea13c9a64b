"""Where a class is seen: maps against their definitions, and the command."""

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from deepconv.commands import saliency as command
from deepconv.exceptions import UserError
from deepconv.inference import model
from deepconv.visualize import saliency


@pytest.fixture(scope="module")
def net(narrow_file):
    return model.open_model(narrow_file)


@pytest.mark.slow
def test_grad_cam_is_its_definition(net):
    """Against a derivative taken channel by channel, by moving that channel's map as a whole."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    below, above = saliency._parts(net.network)
    assert below.layers[-1].name == "relu5_2"
    assert above.layers[0].name == "pool5"
    maps = below.apply({"params": net.params}, (pixels - net.colors.mean_rgb)[None])

    def score(shift):
        return above.apply({"params": net.params}, maps + shift)[..., 3].mean()

    slopes = jax.jacfwd(score)(jnp.zeros(maps.shape[-1])) / (maps.shape[1] * maps.shape[2])
    expected = np.maximum((slopes * maps[0]).sum(-1), 0)
    seen = saliency.viewer(net)(pixels, 3)
    assert seen.label == 3
    np.testing.assert_allclose(seen.grad_cam, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_a_place_of_the_score_map_is_its_crop(net):
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    label, says, _ = saliency.viewer(net)(pixels, None)
    pixels = pixels - net.colors.mean_rgb
    scores = net.network.apply(
        {"params": net.params}, np.pad(pixels, ((16, 16),) * 2 + ((0, 0),))[None]
    )
    assert says.shape == (3, 3, 5)
    np.testing.assert_allclose(says, jax.nn.softmax(scores[0]), rtol=1e-4)
    inner = net.network.apply({"params": net.params}, pixels[None])
    assert label == jax.nn.softmax(inner).mean(axis=(0, 1, 2)).argmax()


@pytest.mark.parametrize(("side", "crop", "stride"), [(56, 48, 32), (256, 224, 32), (97, 63, 16)])
def test_crops_are_centered_everywhere_and_one_is_the_central_crop(side, crop, stride):
    margin = saliency.margin(side, crop, stride)
    first = (crop - 1) / 2 - margin
    centers = first + stride * np.arange((side + 2 * margin - crop) // stride + 1)
    assert first < stride
    assert side - 1 - centers[-1] < 1.5 * stride
    assert (side - crop) // 2 + (crop - 1) / 2 in centers


@pytest.mark.parametrize("label", [-1, 5])
def test_the_number_of_no_class_is_refused(net, label):
    with pytest.raises(ValueError, match=f"label {label} is not in 0 to 4"):
        saliency.viewer(net)(np.zeros((32, 32, 3), np.uint8), label)


def test_a_map_is_spread_to_where_its_places_lie():
    spread = saliency.spread(np.array([[0.0, 1.0], [2.0, 3.0]]), (9, 7), stride=4, first=(2, 2))
    assert spread.shape == (9, 7)
    assert spread[2, 2] == 0
    assert spread[2, 6] == 1
    assert spread[6, 2] == 2
    assert spread[4, 4] == 1.5
    assert spread[0, 0] == 0  # beyond the outer places nothing changes
    assert spread[8, 6] == 3


def test_the_command_and_a_picture_that_is_cut_short(narrow_file, photos, tmp_path, run_main):
    out = tmp_path / "seen.png"
    (photos / "more" / "c.JPG").write_bytes((photos / "more" / "c.JPG").read_bytes()[:700])
    files = (photos / "more", photos / "a.jpg")
    process = run_main(
        "saliency", f"--weights={narrow_file}", f"--out={out}", "--label=class 2", *files
    )
    assert (process.returncode, process.stdout) == (2, f"{out}\n"), process.stderr
    assert process.stderr.startswith(f"deepconv: {photos}/more/c.JPG cannot be read as a picture")
    assert process.stderr.count("\n") == 1
    assert PIL.Image.open(out).size == (900, 238)  # of a picture of 70x50, and a title


def test_a_class_by_its_name(net):
    assert command.numbered(net, "class 2") == 2
    assert command.numbered(net, "4") == 4
    with pytest.raises(UserError, match="--label=cat is not one of the 5 classes, which begin"):
        command.numbered(net, "cat")


def test_a_name_of_two_classes_needs_the_number(net):
    cranes = net._replace(class_names=("crane", "0", "cat", "crane", "dog"))
    with pytest.raises(
        UserError, match="--label=crane is the name of classes 0, 3; give the number"
    ):
        command.numbered(cranes, "crane")
    assert command.numbered(cranes, "3") == 3
    assert command.numbered(cranes, "0") == 1  # a name goes before a number
    for label in ("5", "-1", "²"):
        with pytest.raises(UserError, match="is not one of the 5 classes"):
            command.numbered(cranes, label)


def test_every_picture_has_a_row_of_its_label(net, photos):
    pixels = np.asarray(PIL.Image.open(photos / "a.jpg"))
    figure = saliency.draw(net, [pixels] * 2, [1, 4])
    titles = [axes.get_title() for axes in figure.axes]
    assert all(title.startswith("posterior at each place, 0 to 0.") for title in titles[1::3])
    assert titles[::3] == ["class 1", "class 4"]
