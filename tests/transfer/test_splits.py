"""What a split of Caltech depends on, and what it does not."""

import numpy as np
import pytest

from deepconv.exceptions import UserError
from deepconv.transfer.splits import CALTECH, Protocol, draw


def lay_out(**counts):
    names = [
        f"{name}/{number:04d}.jpg" for name, count in counts.items() for number in range(count)
    ]
    labels = [label for label, count in enumerate(counts.values()) for _ in range(count)]
    return names, labels


def chosen(names, split):
    return {names[record] for record in split.train}, {names[record] for record in split.test}


def test_counts_are_the_papers():
    names, labels = lay_out(a=31, b=80, c=200)
    splits = draw(CALTECH["caltech101"], names, labels, seed=0)
    assert len(splits) == 3
    for train, test in splits:
        assert np.bincount(np.take(labels, train)).tolist() == [30, 30, 30]
        assert np.bincount(np.take(labels, test)).tolist() == [1, 50, 50]
        assert not {*train} & {*test}
        assert (np.diff(train) > 0).all()
        assert (np.diff(test) > 0).all()
    names, labels = lay_out(a=61, b=300)
    for train, test in draw(CALTECH["caltech256"], names, labels, seed=0):
        assert np.bincount(np.take(labels, train)).tolist() == [60, 60]
        assert np.bincount(np.take(labels, test)).tolist() == [1, 240]


def test_splits_and_seeds_differ():
    names, labels = lay_out(a=80, b=90)
    drawn = [
        chosen(names, split)
        for seed in (0, 1)
        for split in draw(CALTECH["caltech101"], names, labels, seed=seed)
    ]
    assert all(one[0] != other[0] for i, one in enumerate(drawn) for other in drawn[:i])
    again = draw(CALTECH["caltech101"], names, labels, seed=1)
    assert [chosen(names, split) for split in again] == drawn[3:]


def test_a_class_does_not_depend_on_the_others_nor_on_their_order():
    names, labels = lay_out(a=80, b=90)
    order = np.random.default_rng(0).permutation(len(names))
    shuffled = [names[at] for at in order]
    other_labels = [1 - labels[at] for at in order]
    only, ones = lay_out(b=90)
    splits = [
        draw(CALTECH["caltech101"], *given, seed=3)
        for given in ((names, labels), (shuffled, other_labels), (only, ones))
    ]
    for first, second, third in zip(*splits, strict=True):
        assert chosen(names, first) == chosen(shuffled, second)
        of_b = [{n for n in part if n.startswith("b/")} for part in chosen(names, first)]
        assert of_b == [*chosen(only, third)]


def test_one_more_picture_moves_at_most_one():
    names, labels = lay_out(a=100)
    more, ones = lay_out(a=101)
    for before, after in zip(
        draw(CALTECH["caltech101"], names, labels, seed=0),
        draw(CALTECH["caltech101"], more, ones, seed=0),
        strict=True,
    ):
        for one, other in zip(chosen(names, before), chosen(more, after), strict=True):
            assert len(one - other) <= 1


def test_the_split_stays_what_it_was():
    names, labels = lay_out(a=8)
    splits = draw(Protocol(3, 2, 2), names, labels, seed=0)
    found = [(split.train.tolist(), split.test.tolist()) for split in splits]
    assert found == [([0, 2, 7], [3, 4]), ([0, 4, 7], [1, 5])]


def test_too_few_pictures_name_the_class():
    names, labels = lay_out(a=31, **{"b c": 30})
    with pytest.raises(UserError) as error:
        draw(CALTECH["caltech101"], names, labels, seed=0)
    message = "class b c has 30 pictures, but 30 are trained on and others tested"
    assert str(error.value) == message
