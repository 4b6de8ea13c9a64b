"""Linear SVMs on fixed descriptors, one class against the rest (VGG appendix B).

    choice = choose_C(descriptors[train], labels[train], CANDIDATES, seed=0)
    linear = fit(descriptors[train], labels[train], choice.C)

Targets are labels `[N]`, 0..C-1, where an image is of one class; or `[N, C]` where it may have
several: 1 present, 0 absent, -1 unknown, which leaves the image out for that class.

Where there are fewer images than numbers, the descriptors are rotated first, which changes neither
lengths nor the solution: N images then have N numbers, half of them zero. While it fits, liblinear
holds every number but zeros in 16 bytes for each thread, next to our float64 copy. Of Caltech-101's
3,060 images of 12,288 numbers, this is 75 MB a thread, and 0.9 GB while they are rotated.

It solves the primal problem: with C = 100 on descriptors of Caltech-101, the dual has not converged
after a thousand passes, and the primal has after some thirty steps. The primal draws no random
numbers, which threads would share, so their number does not matter.
"""

import logging
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from deepconv.evaluation import class_means
from deepconv.evaluation.class_means import ABSENT, PRESENT, UNKNOWN, Rule
from deepconv.transfer.linear import Linear, scores

_LOG = logging.getLogger(__name__)

# Of the training set, for choosing the hyper-parameters (VGG appendix B).
HELD_OUT = 0.2
# The paper prints no C.
CANDIDATES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
MAX_ITERATIONS = 1000
# Classes of one label an image that liblinear is given at once.
_AT_ONCE = 17

# Called with (SVMs fitted, SVMs to fit).
Progress = Callable[[int, int], None]


class Choice(NamedTuple):
    """Which C was chosen, and why.

    Attributes:
      C: the candidate with the highest metric; of several, the smallest.
      tried: (C, metric on the held-out part, 0..1), ascending.
    """

    C: float
    tried: tuple[tuple[float, float], ...]


def fit(
    descriptors: np.ndarray,
    targets: np.ndarray,
    C: float,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> Linear:
    """Fit a linear SVM for each class, which tells it from all others.

    It minimizes |w|^2 / 2 + b^2 / 2 + C sum_n max(0, 1 - y_n (w . x_n + b))^2 with y = 1 where the
    class is present and -1 where it is absent: scikit-learn's LinearSVC and its defaults, which
    shrink the bias too.

    Args:
      descriptors: x, `[N, D]`, each of length 1.
      targets: `[N]` or `[N, C]` int, see above.
      C: the weight of the errors.
      threads: how many classes are fitted at a time.
      progress: called after each SVM.

    Raises:
      ValueError: if the shapes do not fit, C is not positive, a number is not that of a label, or a
        class has no positive or no negative examples.
    """
    present = _present(descriptors, targets)
    return _fit(_problem(descriptors), present, C, threads, progress)


def choose_C(
    descriptors: np.ndarray,
    targets: np.ndarray,
    candidates: Sequence[float] = CANDIDATES,
    seed: int = 0,
    *,
    rule: Rule = "11-point",
    threads: int = 1,
    progress: Progress | None = None,
) -> Choice:
    """Choose C on a held-out fifth of the training set (VGG appendix B).

    The metric is that of the data set: the mean class recall for labels `[N]`, the mean average
    precision for `[N, C]`. A class that the rest cannot be fitted with counts for nothing here. The
    middle candidate is tried first, then larger ones up to the first that is below the best; then,
    unless one of these was better than the middle, smaller ones likewise.

    Args:
      descriptors: of the training set, `[N, D]`, each of length 1.
      targets: `[N]` or `[N, C]` int, see above.
      candidates: values of C.
      seed: of the part that is held out.
      rule: of the average precision.
      threads: see `fit`.
      progress: called after each SVM.

    Raises:
      ValueError: as `fit`; or if there are no candidates, or no class has enough examples.
    """
    if not len(candidates):
        raise ValueError("there are no candidates for C")
    present = _present(descriptors, targets)
    held = hold_out(present, seed)
    rest = present[~held]
    usable = (rest == PRESENT).any(axis=0) & (rest == ABSENT).any(axis=0)
    if not usable.any() or not (present[held][:, usable] == PRESENT).any():
        raise ValueError("no class has two positive examples and a negative one, so C is not known")
    problem = _problem(descriptors[~held])
    ordered = sorted(map(float, candidates))
    metrics: dict[float, float] = {}

    def worse(C: float) -> bool:
        """Try a candidate, and return whether it is below the best so far."""
        fitted, total = (count * int(usable.sum()) for count in (len(metrics), len(ordered)))

        def report(done: int, _: int) -> None:
            if progress:
                progress(fitted + done, total)

        linear = _fit(problem, rest[:, usable], C, threads, report)
        found = scores(linear, descriptors[held])
        if targets.ndim == 1:
            predicted = np.flatnonzero(usable)[found.argmax(axis=1)]
            result = class_means.mean_class_recall(predicted, targets[held], len(usable))
        else:
            result = class_means.mean_average_precision(found, present[held][:, usable], rule)
        metrics[C] = result.mean
        return result.mean < max(metrics.values())

    # any() ends with the first that is worse.
    middle = (len(ordered) - 1) // 2
    any(map(worse, ordered[middle:]))
    if max(metrics.values()) == metrics[ordered[middle]]:
        any(map(worse, reversed(ordered[:middle])))
    tried = sorted(metrics.items())
    # The first of equals, so the smallest.
    return Choice(max(tried, key=lambda pair: pair[1])[0], tuple(tried))


def hold_out(present: np.ndarray, seed: int, fraction: float = HELD_OUT) -> np.ndarray:
    """Choose a part of the images that has the same share of every class.

    Classes are divided one after the other, the rarest first; an image of several classes is
    divided with its rarest. A class of two or more images has at least one on either side, unless
    those it shares with rarer classes are all on one.

    Args:
      present: `[N, C]` int, 1 where a class is present.
      seed: of the choice.
      fraction: how many of the images are held out.

    Returns:
      bool `[N]`, True for those held out.
    """
    rng = np.random.default_rng(seed)
    held, free = np.zeros(len(present), bool), np.ones(len(present), bool)
    of_classes = present == PRESENT
    for number in np.argsort(of_classes.sum(axis=0), kind="stable"):
        of_class = of_classes[:, number]
        images = int(of_class.sum())
        wanted = min(max(round(fraction * images), 1), images - 1)
        wanted -= int((held & of_class).sum())
        mine = rng.permutation(np.flatnonzero(free & of_class))
        held[mine[: max(wanted, 0)]] = True
        free[mine] = False
    of_none = rng.permutation(np.flatnonzero(free))
    held[of_none[: round(fraction * len(of_none))]] = True
    return held


class _Problem(NamedTuple):
    """Descriptors to fit on, perhaps rotated.

    Attributes:
      x: float64 `[N, R]`.
      basis: float64 `[D, R]`, orthonormal columns that the rows of `x` are coordinates of; None if
        they are the descriptors themselves.
    """

    x: np.ndarray
    basis: np.ndarray | None


def _problem(descriptors: np.ndarray) -> _Problem:
    """Rotate descriptors of fewer images than numbers, which has the same solution.

    With X^T = Q R, the weights of least length are a sum of columns of Q: w = Q v, |w| = |v|, and
    X w = R^T v. R^T is `[N, N]` and half of it is zero, which liblinear does not store.
    """
    x = np.ascontiguousarray(descriptors, np.float64)
    if len(x) >= x.shape[1]:
        return _Problem(x, None)
    basis, upper = np.linalg.qr(x.T)
    return _Problem(np.ascontiguousarray(upper.T), basis)


def _present(descriptors: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return targets of either form as int8 `[N, C]`, after checking them."""
    if descriptors.ndim != 2 or len(descriptors) != len(targets) or not len(targets):
        raise ValueError(
            f"descriptors of shape {descriptors.shape} do not fit targets of {targets.shape}"
        )
    if targets.ndim == 2:
        class_means.check_present(targets)
        return targets.astype(np.int8)
    if not np.issubdtype(targets.dtype, np.integer) or targets.min() < 0:
        raise ValueError("labels are whole numbers from 0 on")
    one_hot: np.ndarray = targets[:, None] == np.arange(targets.max() + 1)
    return one_hot.astype(np.int8)


def _fit(
    problem: _Problem, present: np.ndarray, C: float, threads: int, progress: Progress | None
) -> Linear:
    if not C > 0:
        raise ValueError(f"C must be positive, not {C}")
    for number, truth in enumerate(present.T):
        for value, lacking in ((PRESENT, "positive"), (ABSENT, "negative")):
            if not (truth == value).any():
                raise ValueError(f"class {number} has no {lacking} examples")

    def one(numbers: np.ndarray) -> LinearSVC:
        machine = LinearSVC(C=C, dual=False, max_iter=MAX_ITERATIONS)
        if len(numbers) > 1:
            of_one = present[:, numbers] == PRESENT
            # liblinear fits each of these numbers against the rest.
            return machine.fit(problem.x, np.where(of_one.any(axis=1), of_one.argmax(axis=1), -1))
        truth = present[:, numbers[0]]
        known = truth != UNKNOWN
        return machine.fit(problem.x if known.all() else problem.x[known], truth[known] == PRESENT)

    classes = present.shape[1]
    weights = np.empty((problem.x.shape[1], classes))
    bias = np.empty(classes, np.float32)
    unfinished = False
    groups = _groups(present)
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        warnings.simplefilter("ignore", ConvergenceWarning)  # one line below for all classes
        for numbers, machine in zip(groups, pool.map(one, groups), strict=True):
            unfinished |= bool(machine.n_iter_ >= MAX_ITERATIONS)
            # Of a group, the rest comes first, unless there is none.
            weights[:, numbers] = machine.coef_[-len(numbers) :].T
            bias[numbers] = machine.intercept_[-len(numbers) :]
            if progress:
                progress(int(numbers[-1]) + 1, classes)
    if unfinished:
        _LOG.warning(
            "some of %d linear SVMs with C=%g have not converged in %d iterations",
            classes,
            C,
            MAX_ITERATIONS,
        )
    if problem.basis is not None:
        weights = problem.basis @ weights
    return Linear(weights.astype(np.float32), bias)


def _groups(present: np.ndarray) -> list[np.ndarray]:
    """Divide the classes into those that liblinear is given at once.

    It copies the descriptors each time, which takes as long as a few steps of fitting.
    """
    numbers = np.arange(present.shape[1])
    of_one = (present != UNKNOWN).all() and ((present == PRESENT).sum(axis=1) <= 1).all()
    if not of_one or len(numbers) < 3:
        return np.split(numbers, len(numbers))
    return np.array_split(numbers, -(-len(numbers) // _AT_ONCE))
