"""Linear SVMs on fixed descriptors, one class against the rest (VGG appendix B).

    choice = choose_C(descriptors[train], labels[train], CANDIDATES, seed=0)
    linear = fit(descriptors[train], labels[train], choice.C)

Targets are labels `[N]`, 0..C-1, where an image is of one class; or `[N, C]` where it may have
several: 1 present, 0 absent, -1 unknown, which leaves the image out for that class.

While it fits, liblinear holds every number of the training descriptors in 16 bytes for each thread,
next to our float64 copy: 24 bytes a number with one thread, 0.9 GB for Caltech-101's 3,060 images
of 12,288.

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
# Candidates in a row below the best after which no larger one is tried.
_PATIENCE = 2

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
    return _fit(np.ascontiguousarray(descriptors, np.float64), present, C, threads, progress)


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
    precision for `[N, C]`. A class that the rest cannot be fitted with counts for nothing here.
    Larger candidates, which take longest, are not tried when two in a row have been below the best.

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
    x, rest = np.ascontiguousarray(descriptors[~held], np.float64), present[~held]
    usable = (rest == PRESENT).any(axis=0) & (rest == ABSENT).any(axis=0)
    if not usable.any() or not (present[held][:, usable] == PRESENT).any():
        raise ValueError("no class has two positive examples and a negative one, so C is not known")
    total = len(candidates) * int(usable.sum())
    tried = []
    for number, C in enumerate(sorted(candidates)):
        before = number * int(usable.sum())

        def report(done: int, _: int, before: int = before) -> None:
            if progress:
                progress(before + done, total)

        found = scores(_fit(x, rest[:, usable], C, threads, report), descriptors[held])
        if targets.ndim == 1:
            predicted = np.flatnonzero(usable)[found.argmax(axis=1)]
            result = class_means.mean_class_recall(predicted, targets[held], len(usable))
        else:
            result = class_means.mean_average_precision(found, present[held][:, usable], rule)
        tried.append((float(C), result.mean))
        best = max(metric for _, metric in tried)
        if len(tried) > _PATIENCE and all(metric < best for _, metric in tried[-_PATIENCE:]):
            break
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
    x: np.ndarray, present: np.ndarray, C: float, threads: int, progress: Progress | None
) -> Linear:
    if not C > 0:
        raise ValueError(f"C must be positive, not {C}")
    for number, truth in enumerate(present.T):
        for value, lacking in ((PRESENT, "positive"), (ABSENT, "negative")):
            if not (truth == value).any():
                raise ValueError(f"class {number} has no {lacking} examples")

    def one(truth: np.ndarray) -> LinearSVC:
        known = truth != UNKNOWN
        machine = LinearSVC(C=C, dual=False, max_iter=MAX_ITERATIONS)
        return machine.fit(x if known.all() else x[known], truth[known] == PRESENT)

    classes = present.shape[1]
    weights = np.empty((x.shape[1], classes), np.float32)
    bias = np.empty(classes, np.float32)
    unfinished = 0
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        warnings.simplefilter("ignore", ConvergenceWarning)  # one line below for all classes
        for number, machine in enumerate(pool.map(one, present.T)):
            unfinished += machine.n_iter_ >= MAX_ITERATIONS
            weights[:, number], bias[number] = machine.coef_[0], machine.intercept_[0]
            if progress:
                progress(number + 1, classes)
    if unfinished:
        _LOG.warning(
            "%d of %d linear SVMs with C=%g have not converged in %d iterations",
            unfinished,
            classes,
            C,
            MAX_ITERATIONS,
        )
    return Linear(weights, bias)
