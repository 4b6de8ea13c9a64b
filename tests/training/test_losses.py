"""The loss of boxes against float64, number by number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepconv import boxes
from deepconv.data import targets
from deepconv.training import losses

BATCH, CLASSES = 12, 5


@pytest.fixture(params=[1, CLASSES], ids=["single", "per_class"])
def batch(request):
    rng = np.random.default_rng(0)
    low, high = np.sort(rng.uniform(-0.2, 1.2, (2, BATCH, 3, 2)), axis=0)
    found = np.concatenate([low, high], axis=-1)
    padded = np.zeros((BATCH, targets.MOST_BOXES, 4))
    padded[:, :3] = found
    label = rng.integers(0, CLASSES, BATCH)
    outputs = rng.normal(0.5, 0.3, (BATCH, request.param, 4))
    near = boxes.encode(found[:, 1])  # half of the predictions overlap a box that is not the target
    for row in range(0, BATCH, 2):
        outputs[row, label[row] % request.param] = near[row] + rng.normal(0, 0.02, 4)
    target = {"label": label, "box": boxes.encode(found[:, 0]), "boxes": padded}
    mask = rng.uniform(size=BATCH) < 0.8
    return outputs, target, mask


def test_loss_and_metrics_are_those_of_float64(batch):
    outputs, target, mask = batch
    loss = wrong = overlap = 0.0
    for row in np.flatnonzero(mask):
        box = outputs[row, target["label"][row] % outputs.shape[1]]
        loss += 0.5 * sum((a - b) ** 2 for a, b in zip(box, target["box"][row], strict=True))
        best = max(float(boxes.iou(boxes.decode(box), true)) for true in target["boxes"][row][:3])
        wrong, overlap = wrong + (best <= 0.5), overlap + best
    sums = losses.euclidean(
        jnp.asarray(outputs.reshape(BATCH, -1), jnp.float32),
        {
            "label": jnp.asarray(target["label"], jnp.int32),
            "box": jnp.asarray(target["box"], jnp.float32),
            "boxes": jnp.asarray(target["boxes"], jnp.float32),
        },
        jnp.asarray(mask),
    )
    # Each difference of numbers up to 2 is off by 2^-23, and squares up to 4 are summed 48 times.
    assert float(sums["loss"]) == pytest.approx(loss, abs=4 * 48 * 2.0**-23)
    assert int(sums["localization_error"]) == wrong
    assert float(sums["iou"]) == pytest.approx(overlap, abs=1e-4)
    assert 0 < wrong < mask.sum()


def test_the_gradient_is_that_of_the_true_class_alone(batch):
    outputs, target, mask = batch

    def loss(flat):
        return losses.euclidean(flat, target, jnp.asarray(mask))["loss"]

    target = {name: jnp.asarray(value) for name, value in target.items()}
    gradient = np.asarray(jax.grad(loss)(jnp.asarray(outputs.reshape(BATCH, -1), jnp.float32)))
    expected = np.zeros_like(outputs)
    for row in np.flatnonzero(mask):
        own = int(target["label"][row]) % outputs.shape[1]
        expected[row, own] = outputs[row, own] - np.asarray(target["box"][row])
    np.testing.assert_allclose(gradient, expected.reshape(BATCH, -1), atol=4 * 2.0**-23)


def test_a_mirrored_target_is_that_of_the_mirrored_boxes(batch):
    _, target, _ = batch
    mirrored = losses.mirror_boxes({name: jnp.asarray(value) for name, value in target.items()})
    expected = boxes.mirror(target["boxes"][:, :3])
    np.testing.assert_allclose(mirrored["boxes"][:, :3], expected, atol=2.0**-22)
    np.testing.assert_allclose(boxes.decode(mirrored["box"]), expected[:, 0], atol=2.0**-21)
    np.testing.assert_array_equal(mirrored["label"], target["label"])
    assert not np.asarray(boxes.area(mirrored["boxes"][:, 3:])).any()


def test_boxes_of_another_shape_are_refused(batch):
    outputs, target, mask = batch
    with pytest.raises(AssertionError, match="boxes do not fit"):
        losses.euclidean(jnp.asarray(outputs.reshape(BATCH, -1))[:5], target, jnp.asarray(mask))


# Several labels.


@pytest.fixture
def several():
    rng = np.random.default_rng(1)
    scores = rng.normal(0, 2, (BATCH, CLASSES))
    labels = rng.choice([1, 0, -1], (BATCH, CLASSES), p=[0.4, 0.4, 0.2]).astype(np.int8)
    labels[0], labels[1] = [0, 0, -1, 0, 0], [-1] * 5  # nothing is present; nothing is known
    return scores, labels, rng.uniform(size=BATCH) < 0.8


def test_sigmoid_cross_entropy_is_that_of_float64(several):
    scores, labels, mask = several
    expected = 0.0
    for row in np.flatnonzero(mask):
        for score, label in zip(scores[row], labels[row], strict=True):
            if label >= 0:
                expected += np.log1p(np.exp(-score if label else score))
    target = {"labels": jnp.asarray(labels)}
    sums = losses.sigmoid_cross_entropy(jnp.asarray(scores, jnp.float32), target, mask)
    # Each of up to 60 terms, none above 8, is off by some roundings.
    assert float(sums["loss"]) == pytest.approx(expected, abs=60 * 8 * 4 * 2.0**-24)


def test_the_gradient_ignores_what_is_unknown(several):
    scores, labels, mask = several

    def loss(scores):
        target = {"labels": jnp.asarray(labels)}
        return losses.sigmoid_cross_entropy(scores, target, jnp.asarray(mask))["loss"]

    found = jax.grad(loss)(jnp.asarray(scores, jnp.float32))
    expected = (1 / (1 + np.exp(-scores)) - (labels == 1)) * (labels >= 0) * mask[:, None]
    np.testing.assert_allclose(found, expected, atol=8 * 2.0**-24)


def test_ranking_errors_are_those_of_a_loop_over_classes(several):
    scores, labels, _ = several
    scores = np.round(scores)  # with ties
    expected = []
    for of_image, known in zip(scores, labels, strict=True):
        precisions = []
        for score in of_image[known == 1]:
            above = known[(of_image >= score) & (known >= 0)]
            precisions.append((above == 1).mean())
        expected.append(1 - np.mean(precisions) if precisions else 0.0)
    found = losses.ranking_errors(jnp.asarray(scores), jnp.asarray(labels))
    np.testing.assert_allclose(found, expected, atol=4 * 2.0**-24)


def test_ranking_errors_are_scikit_learns_where_all_is_known():
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(50, 6))
    labels = (rng.uniform(size=(50, 6)) < 0.4).astype(np.int8)
    labels = labels[labels.any(axis=1)]
    found = losses.ranking_errors(jnp.asarray(scores[: len(labels)]), jnp.asarray(labels))
    expected = 1 - sklearn.label_ranking_average_precision_score(labels, scores[: len(labels)])
    assert float(found.mean()) == pytest.approx(expected, abs=1e-6)


def test_labels_of_another_shape_are_refused(several):
    scores, labels, mask = several
    with pytest.raises(AssertionError, match="labels do not fit"):
        losses.sigmoid_cross_entropy(jnp.asarray(scores), {"labels": labels[:, :3]}, mask)
