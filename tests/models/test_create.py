"""Networks by name; a wrong option is refused with its value in the message."""

import jax
import jax.numpy as jnp
import pytest

from deepconv import models


@pytest.mark.parametrize("name", models.NETWORKS)
def test_every_network_ends_with_its_classes(name):
    network = models.create(name, 12, initializer="he", dtype=jnp.bfloat16)
    assert network.layers[-1].features == 12
    assert (network.initializer, network.dtype) == ("he", jnp.bfloat16)
    assert network.crop == (24 if name.startswith("cifar10") else 224)


def test_the_names():
    assert " ".join(models.NETWORKS) == (
        "alexnet alexnet_owt vgg_a vgg_a_lrn vgg_b vgg_b_shallow vgg_c vgg_d vgg_e "
        "cifar10_13pct cifar10_11pct"
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vgg_z", {}, "unknown network 'vgg_z'; choose from alexnet"),
        ("vgg16_bn", {}, "unknown network 'vgg16_bn'; .* batch normalization is not trained here"),
        ("vgg_a", {"initializer": "zeros"}, "unknown initializer 'zeros'; choose from paper"),
        (
            "vgg_a",
            {"towers": 2},
            "vgg_a has no option 'towers'; its options are width, crop, dropout",
        ),
        ("cifar10_11pct", {"dropout": 0.5}, "cifar10_11pct has no option 'dropout'"),
        ("cifar10_11pct", {"width": 0.0}, "model.width must be positive, not 0.0"),
        ("alexnet", {"num_class": 5}, "alexnet has no option 'num_class'"),
        ("alexnet", {"towers": 3}, "model.towers must be 1 or 2, not 3"),
        ("alexnet", {"lrn": "torch"}, "unknown model.lrn 'torch'; choose from paper"),
        (
            "alexnet",
            {"without": "conv1"},
            "unknown model.without 'conv1'; choose from conv2, conv3",
        ),
        ("alexnet", {"half": True}, "model.half=True .* set model.towers=1"),
        ("alexnet", {"pooling": "mean"}, "unknown model.pooling 'mean'; choose from overlapping"),
        ("alexnet", {"dropout": 1.0}, "model.dropout .* not 1.0"),
        ("vgg_a", {"dropout": -0.5}, "model.dropout .* not -0.5"),
        ("vgg_a", {"std": 0.0}, "model.std must be positive, not 0.0"),
        ("vgg_a", {"width": 0}, "model.width must be positive, not 0"),
        ("alexnet", {"width": -1.0}, "model.width must be positive, not -1.0"),
        (
            "cifar10_13pct",
            {"activation": "gelu"},
            "unknown model.activation 'gelu'; choose from relu",
        ),
        ("vgg_a", {"crop": 31}, "1x1 is too small for layer pool5"),
        ("alexnet", {"crop": 32}, "too small for layer pool5"),
        ("cifar10_13pct", {"crop": 1}, "too small for layer"),
    ],
)
def test_what_is_impossible(name, options, message):
    with pytest.raises(ValueError, match=message):
        models.create(name, **options)


@pytest.mark.parametrize(
    ("boxes", "parameters"), [("single", 134_276_932), ("per_class", 150_648_544)]
)
def test_networks_for_boxes_have_the_papers_number_of_parameters(boxes, parameters):
    model = models.create("vgg_d", boxes=boxes)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == parameters


@pytest.mark.parametrize("name", models.NETWORKS)
def test_any_network_predicts_boxes(name):
    for boxes, outputs in (("single", 4), ("per_class", 28)):
        model = models.create(name, num_classes=7, boxes=boxes)
        classifier = models.create(name, num_classes=7)
        assert model.layers[:-1] == classifier.layers[:-1]
        assert model.layers[-1].features == outputs


def test_boxes_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="boxes='two' is not one of"):
        models.create("vgg_d", boxes="two")
