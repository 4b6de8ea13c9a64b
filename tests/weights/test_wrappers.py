"""A network's own names, whatever trained or wrapped it."""

import pytest

from deepconv.exceptions import UserError
from deepconv.weights.wrappers import unwrap


@pytest.mark.parametrize(
    "name",
    [
        "features.0.weight",
        "module.features.0.weight",
        "features.module.0.weight",
        "_orig_mod.features.0.weight",
        "_orig_mod.module.features.0.weight",
        "model.features.0.weight",
        "model._orig_mod.features.0.weight",
        "net.backbone.module.features.module.0.weight",
    ],
)
def test_wrappers_of_every_kind(name):
    assert unwrap([name]).names == {name: "features.0.weight"}


def test_only_whole_parts_of_a_name_are_wrappers():
    names = ["features.0.my_module.weight", "modules.weight", "features_0"]
    assert unwrap(names).names == {name: name for name in names}


def test_what_is_outside_the_network_is_left():
    names = ["model.features.0.weight", "model.head.fc.bias", "loss.weight"]
    unwrapped = unwrap(names)
    assert [*unwrapped.names.values()] == ["features.0.weight", "head.fc.bias"]
    assert unwrapped.left == ("loss.weight",)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.features.0.bias", "b.features.0.bias"], "holds several networks, a., b.: save the"),
        (
            ["features.0.bias", "module.features.0.bias"],
            "features.0.bias and module.features.0.bias are both features.0.bias without",
        ),
    ],
)
def test_what_cannot_be_told_apart(names, message):
    with pytest.raises(UserError, match=message):
        unwrap(names)
