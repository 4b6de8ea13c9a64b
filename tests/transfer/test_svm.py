"""Fits against scikit-learn's own and the objective; the choice of C; the file."""

import json
import logging

import numpy as np
import pytest
import safetensors.numpy
from sklearn.svm import LinearSVC

from deepconv.evaluation import class_means
from deepconv.exceptions import UserError
from deepconv.run import weights_file
from deepconv.transfer import aggregate, svm, svm_file
from deepconv.transfer.linear import Linear, scores
from deepconv.transfer.svm_file import Classifier


def clusters(classes=4, images=30, width=10, spread=1.5, seed=0):
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(classes, width))
    labels = np.repeat(np.arange(classes), images)
    x = centers[labels] + spread * rng.normal(size=(len(labels), width))
    return aggregate.normalize(x), labels


def one_hot(labels):
    return (labels[:, None] == np.arange(labels.max() + 1)).astype(int)


def objective(weights, bias, x, y, C):
    errors = np.maximum(0, 1 - y * (x @ weights + bias))
    return (weights @ weights + bias**2) / 2 + C * (errors**2).sum()


@pytest.mark.parametrize("width", [10, 300])  # fewer numbers than images, and more
def test_each_class_minimizes_what_the_docstring_says(width):
    x, labels = clusters(width=width)
    linear = svm.fit(x, labels, 2.0)
    assert (linear.weights.shape, linear.bias.shape) == ((width, 4), (4,))
    assert {array.dtype for array in linear} == {np.dtype(np.float32)}
    rng = np.random.default_rng(0)
    for number in range(4):
        y = np.where(labels == number, 1.0, -1.0)
        w, b = linear.weights[:, number].astype(float), float(linear.bias[number])
        best = objective(w, b, x, y, 2.0)
        for size in (0.1, 0.03):
            step = rng.normal(size=width + 1)
            step *= size / np.linalg.norm(step)
            assert objective(w + step[:-1], b + step[-1], x, y, 2.0) > best
        assert objective(0 * w, 0.0, x, y, 2.0) > best


def test_it_decides_as_scikit_learns_own_one_against_the_rest():
    x, labels = clusters()
    machine = LinearSVC(C=1.0, tol=1e-8).fit(x, labels)
    linear = svm.fit(x, labels, 1.0)
    np.testing.assert_allclose(linear.weights, machine.coef_.T, atol=2e-3)
    np.testing.assert_allclose(scores(linear, x), machine.decision_function(x), atol=2e-3)


def test_labels_and_their_columns_are_the_same_problem():
    x, labels = clusters()
    for one, other in zip(svm.fit(x, labels, 1.0), svm.fit(x, one_hot(labels), 1.0), strict=True):
        np.testing.assert_array_equal(one, other)


def test_unknown_images_are_left_out_for_their_class_alone():
    x, labels = clusters()
    present = one_hot(labels)
    present[::3, 1] = class_means.UNKNOWN
    found = svm.fit(x, present, 1.0)
    whole = svm.fit(x, one_hot(labels)[:, [0, 2, 3]], 1.0)
    known = present[:, 1] >= 0
    alone = svm.fit(x[known], present[known][:, 1:2], 1.0)
    np.testing.assert_array_equal(found.weights[:, 1], alone.weights[:, 0])
    # Classes of one label an image are fitted in a group, in another order of the images.
    others = np.delete(found.weights, 1, 1)
    np.testing.assert_allclose(others, whole.weights, rtol=1e-3, atol=1e-3)
    complete = svm.fit(x, labels, 1.0).weights[:, 1]
    assert not np.allclose(found.weights[:, 1], complete, rtol=1e-2, atol=1e-2)


def test_neither_a_second_call_nor_threads_change_a_bit():
    x, labels = clusters(width=300)
    first, *others = (svm.fit(x, labels, 10.0, threads=threads) for threads in (1, 1, 3))
    for other in others:
        np.testing.assert_array_equal(first.weights, other.weights)
        np.testing.assert_array_equal(first.bias, other.bias)
    choices = [svm.choose_C(x, labels, (0.1, 1, 10), seed=2, threads=n) for n in (1, 2)]
    assert choices[0] == choices[1]


@pytest.mark.parametrize(
    ("recalls", "tried", "best"),
    [
        ({4: 0.5, 5: 0.8, 6: 0.8, 7: 0.7}, [4, 5, 6, 7], 5),  # smaller ones are not tried
        ({4: 0.5, 5: 0.4, 3: 0.5, 2: 0.6, 1: 0.5}, [1, 2, 3, 4, 5], 2),
        ({4: 0.5, 5: 0.5, 6: 0.4, 3: 0.4}, [3, 4, 5, 6], 4),
    ],
)
def test_candidates_are_tried_from_the_middle_to_the_first_worse_one(
    monkeypatch, recalls, tried, best
):
    x, labels = clusters()
    found = iter(recalls.values())
    monkeypatch.setattr(
        class_means,
        "mean_class_recall",
        lambda *_: class_means.ClassMean(next(found), np.zeros(4), 0),
    )
    choice = svm.choose_C(x, labels, (1, 2, 3, 4, 5, 6, 7))
    assert (choice.C, [C for C, _ in choice.tried]) == (best, tried)
    assert all(recalls[C] == metric for C, metric in choice.tried)


@pytest.mark.parametrize("width", [10, 300])
def test_groups_of_classes_are_fitted_as_each_alone(monkeypatch, width):
    x, labels = clusters(classes=7, width=width)
    monkeypatch.setattr(svm, "_AT_ONCE", 3)
    found = svm.fit(x, labels, 2.0)
    for number in range(7):
        alone = svm.fit(x, one_hot(labels)[:, [number]], 2.0)
        # Newton's method stops at 1e-4 of the first gradient, times the share of the class.
        np.testing.assert_allclose(found.weights[:, number], alone.weights[:, 0], atol=1e-3)
        np.testing.assert_allclose(found.bias[number], alone.bias[0], atol=1e-3)


def test_rotated_descriptors_have_the_same_products():
    x, _ = clusters(width=300)
    rotated, basis = svm._problem(x)
    assert rotated.shape == (120, 120)
    assert not np.triu(rotated, 1).any()
    np.testing.assert_allclose(rotated @ basis.T, x, atol=1e-6)
    np.testing.assert_allclose(basis.T @ basis, np.eye(120), atol=1e-12)
    assert svm._problem(x[:, :119]).basis is None


def test_progress_counts_machines(monkeypatch):
    x, labels = clusters()
    calls = []
    monkeypatch.setattr(svm, "_AT_ONCE", 2)
    svm.fit(x, labels, 1.0, progress=lambda *call: calls.append(call))
    assert calls == [(2, 4), (4, 4)]
    calls.clear()
    svm.choose_C(x, labels, (0.1, 1, 10), progress=lambda *call: calls.append(call))
    assert calls == [(done, 12) for done in range(2, 2 * len(calls) + 1, 2)]
    assert len(calls) in (4, 6)  # two or three candidates


def test_what_has_not_converged_is_one_line(caplog, monkeypatch, recwarn):
    x, labels = clusters(width=300)
    monkeypatch.setattr(svm, "MAX_ITERATIONS", 2)
    with caplog.at_level(logging.WARNING):
        svm.fit(x, labels, 1000.0)
    assert caplog.messages == [
        "some of 4 linear SVMs with C=1000 have not converged in 2 iterations"
    ]
    assert not recwarn.list
    caplog.clear()
    monkeypatch.undo()
    svm.fit(x, labels, 1.0)
    assert not caplog.messages


def test_a_part_of_every_class_is_held_out():
    labels = np.repeat(np.arange(5), [30, 10, 3, 2, 1])
    held = svm.hold_out(one_hot(labels), seed=0)
    assert np.bincount(labels[held], minlength=5).tolist() == [6, 2, 1, 1, 0]
    assert not np.array_equal(held, svm.hold_out(one_hot(labels), seed=1))
    np.testing.assert_array_equal(held, svm.hold_out(one_hot(labels), seed=0))


def test_a_part_of_every_one_of_several_classes_is_held_out():
    rng = np.random.default_rng(0)
    present = (rng.random((1000, 6)) < [0.4, 0.2, 0.1, 0.05, 0.01, 0.003]).astype(int)
    present[5] = -1
    held = svm.hold_out(present, seed=3)
    of_class = (present == 1).sum(axis=0)
    shares = (present[held] == 1).sum(axis=0) / of_class
    assert ((present[held] == 1).sum(axis=0) >= 1).all()
    assert (shares < 1).all()
    np.testing.assert_allclose(shares[of_class > 30], 0.2, atol=0.03)
    assert held.mean() == pytest.approx(0.2, abs=0.01)


def test_c_is_the_best_on_the_held_out_part_and_the_smallest_of_equals():
    x, labels = clusters(classes=6, spread=1.0)
    choice = svm.choose_C(x, labels, (100.0, 1e-4, 1.0), seed=4)
    assert {C for C, _ in choice.tried} <= {1e-4, 1.0, 100.0}
    held = svm.hold_out(one_hot(labels), seed=4)
    for C, metric in choice.tried:
        found = scores(svm.fit(x[~held], labels[~held], C), x[held])
        assert metric == class_means.mean_class_recall(found.argmax(axis=1), labels[held], 6).mean
    best = max(metric for _, metric in choice.tried)
    assert min(C for C, metric in choice.tried if metric == best) == choice.C
    apart, labels = clusters(spread=0.01)
    assert svm.choose_C(apart, labels, (3.0, 2.0, 4.0)).C == 2.0


@pytest.mark.parametrize("rule", ["11-point", "all-point"])
def test_for_several_labels_c_is_chosen_by_the_average_precision(rule):
    x, labels = clusters(classes=6, spread=1.0)
    present = one_hot(labels)
    present[:, 1] |= present[:, 0]
    present[7::11, 2] = -1
    choice = svm.choose_C(x, present, (0.01, 1.0), seed=1, rule=rule)
    held = svm.hold_out(present, seed=1)
    for C, metric in choice.tried:
        found = scores(svm.fit(x[~held], present[~held], C), x[held])
        assert metric == class_means.mean_average_precision(found, present[held], rule).mean


def test_a_class_of_one_image_does_not_stop_the_choice():
    x, labels = clusters()
    x, labels = x[:-29], labels[:-29]  # one image of the last class
    present = np.c_[one_hot(labels), np.zeros(len(labels), int)]  # and a class of none
    assert 0 < svm.choose_C(x, labels, (1.0, 10.0)).tried[0][1] <= 1
    assert 0 < svm.choose_C(x, present, (1.0, 10.0)).tried[0][1] <= 1
    with pytest.raises(ValueError, match="no class has two positive examples"):
        svm.choose_C(x[:3], np.array([0, 1, 2]), (1.0,))


def test_wrong_targets_are_refused():
    x, labels = clusters()
    with pytest.raises(ValueError, match="class 1 has no positive examples"):
        svm.fit(x, np.where(labels == 1, 0, labels), 1.0)
    with pytest.raises(ValueError, match="class 0 has no negative examples"):
        svm.fit(x, np.zeros(len(x), int), 1.0)
    with pytest.raises(ValueError, match="do not fit targets"):
        svm.fit(x[:-1], labels, 1.0)
    with pytest.raises(ValueError, match="label 2 is not 1 .present."):
        svm.fit(x, np.full((len(x), 2), 2), 1.0)
    with pytest.raises(ValueError, match="labels are whole numbers from 0 on"):
        svm.fit(x, labels - 1, 1.0)
    with pytest.raises(ValueError, match="C must be positive, not 0"):
        svm.fit(x, labels, 0)
    with pytest.raises(ValueError, match="no candidates"):
        svm.choose_C(x, labels, ())


def test_descriptors_of_another_width_are_refused():
    x, labels = clusters()
    linear = svm.fit(x, labels, 1.0)
    with pytest.raises(ValueError, match="of shape .120, 9. do not fit a classifier of 10 numbers"):
        scores(linear, x[:, :9])


# The file.


@pytest.fixture
def saved(tmp_path):
    rng = np.random.default_rng(0)
    linear = Linear(rng.random((5, 3), np.float32), rng.random(3, np.float32))
    classifier = Classifier(linear, ("cat", "dog\udcff", "e mu"), {"C": 0.1, "scales": [256, 384]})
    path = tmp_path / "svm.safetensors"
    svm_file.save(path, classifier)
    return path, classifier


def test_a_classifier_comes_back_from_its_file(saved):
    path, classifier = saved
    found = svm_file.load(path)
    for one, other in zip(found.linear, classifier.linear, strict=True):
        np.testing.assert_array_equal(one, other)
    assert found[1:] == classifier[1:]
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert not weights_file.is_ours(path)
    found.require_width(5, "vgg_d")
    with pytest.raises(UserError, match="vgg_d have 6 numbers, but the SVM was fitted on 5"):
        found.require_width(6, "vgg_d")


def test_a_file_that_is_cut_or_changed_is_damaged(saved):
    path, _ = saved
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at])
        with pytest.raises(UserError) as error:
            svm_file.load(path)
        assert "\n" not in str(error.value)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match="checksum"):
        svm_file.load(path)


def about(path):
    with safetensors.safe_open(path, "numpy") as file:
        return json.loads(file.metadata()["deepconv_svm"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"class_names": ["cat"]}, r"weights \(5, 3\) and bias \(3,\) are not of 1 classes"),
        ({"class_names": 3}, "description"),
        ({"settings": 3}, "description"),
        ({"crc32": {}}, "checksum"),
    ],
)
def test_a_description_that_does_not_fit_is_damaged(saved, change, says):
    path, classifier = saved
    metadata = {"deepconv_svm": json.dumps({**about(path), **change})}
    weights_file.write_tensors(path, classifier.linear._asdict(), metadata)
    with pytest.raises(UserError, match=f"is damaged: .*{says}"):
        svm_file.load(path)


def test_other_files_are_not_classifiers(saved, tmp_path):
    path, classifier = saved
    with pytest.raises(UserError, match="no such file"):
        svm_file.load(tmp_path / "none")
    path.write_bytes(safetensors.numpy.save({"x": np.zeros(1)}))
    with pytest.raises(UserError, match="does not hold a linear SVM"):
        svm_file.load(path)
    broken = classifier._replace(linear=Linear(np.full((5, 3), np.nan, np.float32), np.ones(3)))
    svm_file.save(path, broken)
    with pytest.raises(UserError, match="not finite float32"):
        svm_file.load(path)
    weights_file.write_tensors(path, {"weights": np.ones(3)}, {"deepconv_svm": "{}"})
    with pytest.raises(UserError, match="description cannot be read"):
        svm_file.load(path)
    with pytest.raises(UserError, match="cannot write"):
        svm_file.save(tmp_path / "no" / "folder", classifier)
