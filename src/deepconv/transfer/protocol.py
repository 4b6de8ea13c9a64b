"""Fit and test linear SVMs on descriptors as the paper does (VGG appendix B).

    part = Part(train_x, train_labels, test_x, test_labels, test_ids)
    outcome = on_classes([part], class_names, seed=0)
    outcome = on_labels(part, class_names, rule="11-point", seed=0)  # labels [N, C]
    outcome.result["mean"]

Of each split, C is chosen on a held-out fifth of the training images; then the SVMs are fitted on
all of them.
"""

import contextlib
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from deepconv.evaluation.class_means import ABSENT, PRESENT, Rule
from deepconv.evaluation.several_labels import of_labels
from deepconv.exceptions import UserError
from deepconv.transfer import report, svm
from deepconv.transfer.linear import Linear, scores
from deepconv.transfer.report import Scores
from deepconv.transfer.svm import CANDIDATES, Choice

_LOG = logging.getLogger(__name__)


class Part(NamedTuple):
    """The images of a split.

    Attributes:
      train: descriptors to fit on, `[N, D]`, each of length 1.
      train_targets: int `[N]`, or `[N, C]`; see `svm`.
      test: descriptors to test with, `[M, D]`.
      test_targets: likewise.
      test_ids: names of the images to test with.
    """

    train: np.ndarray
    train_targets: np.ndarray
    test: np.ndarray
    test_targets: np.ndarray
    test_ids: Sequence[str]


class Outcome(NamedTuple):
    """What became of a protocol.

    Attributes:
      linear: the classifier of the first split.
      result: see `report`; `splits` adds how C was chosen in each, and `notes` what to know.
    """

    linear: Linear
    result: dict[str, Any]


def on_classes(
    parts: Iterable[Part],
    class_names: Sequence[str],
    *,
    seed: int,
    candidates: Sequence[float] = CANDIDATES,
    threads: int = 1,
) -> Outcome:
    """Classify images of one class each; the result is the mean class recall (Caltech).

    Args:
      parts: the splits, one in memory at a time if they are made when they are asked for.
      class_names: names of the C classes.
      seed: of the images that are held out.
      candidates: values of C.
      threads: how many classes are fitted at a time.

    Raises:
      UserError: if a class has no training images, or none has two.
    """
    first: Linear | None = None
    tested, chosen = [], []
    for number, part in enumerate(parts, start=1):
        missing = np.bincount(part.train_targets, minlength=len(class_names)) == 0
        _require(missing, class_names, "has no training pictures")
        title = f"split {number}: "
        linear, choice = _fitted(part, "11-point", seed, candidates, threads, title)
        first = first or linear
        chosen.append(choice)
        tested.append(Scores(scores(linear, part.test), part.test_targets, part.test_ids))
    if first is None:
        raise ValueError("there are no splits")
    return Outcome(first, report.of_classes(tested, class_names) | _about(chosen, candidates))


def on_labels(
    part: Part,
    class_names: Sequence[str],
    *,
    rule: Rule,
    seed: int,
    candidates: Sequence[float] = CANDIDATES,
    threads: int = 1,
) -> Outcome:
    """Tell which classes are in images of several; the result is the mean AP (VOC).

    Args:
      part: the training and test images, their targets `[N, C]`.
      class_names: names of the C classes.
      rule: of the average precision.
      seed: of the images that are held out.
      candidates: values of C.
      threads: how many classes are fitted at a time.

    Raises:
      UserError: if a class is in no training picture or in all of them, or none is in two; or if no
        class is in a test picture.
    """
    for value, words in (
        (PRESENT, "is in no training picture"),
        (ABSENT, "is absent from no training picture"),
    ):
        missing = ~(part.train_targets == value).any(axis=0)
        _require(missing, class_names, f"{words}, so no SVM can tell it from others")
    if not (part.test_targets == PRESENT).any():
        raise UserError("no class is in any of the test pictures, so there is no precision")
    linear, choice = _fitted(part, rule, seed, candidates, threads, "")
    result = of_labels(
        scores(linear, part.test), part.test_targets, rule, class_names, part.test_ids
    )
    return Outcome(linear, result | _about([choice], candidates))


def _require(missing: np.ndarray, class_names: Sequence[str], words: str) -> None:
    if missing.any():
        raise UserError(f"class {class_names[int(missing.argmax())]} {words}")


def _fitted(
    part: Part, rule: Rule, seed: int, candidates: Sequence[float], threads: int, title: str
) -> tuple[Linear, Choice]:
    with _bar(f"{title}choosing C") as progress:
        try:
            choice = svm.choose_C(
                part.train,
                part.train_targets,
                candidates,
                seed,
                rule=rule,
                threads=threads,
                progress=progress,
            )
        except ValueError as error:
            raise UserError(f"too few training pictures to choose C: {error}") from error
    best = max(metric for _, metric in choice.tried)
    _LOG.info("%sC=%g is best on the held-out images, with %.1f %%", title, choice.C, 100 * best)
    with _bar(f"{title}C={choice.C:g}") as progress:
        linear = svm.fit(
            part.train, part.train_targets, choice.C, threads=threads, progress=progress
        )
    return linear, choice


def _about(chosen: Sequence[Choice], candidates: Sequence[float]) -> dict[str, Any]:
    notes = [
        f"C={edge:g} is the {what} that was tried, and was chosen in {count} of {len(chosen)} "
        f"splits: a {other} one may be better"
        for edge, what, other in (
            (min(candidates), "smallest", "smaller"),
            (max(candidates), "largest", "larger"),
        )
        if (count := sum(edge == choice.C for choice in chosen))
    ]
    return {
        "splits": [{"C": choice.C, "tried": [*map(list, choice.tried)]} for choice in chosen],
        "notes": notes,
    }


@contextlib.contextmanager
def _bar(title: str) -> Iterator[svm.Progress]:
    with tqdm(desc=title, unit=" SVMs", disable=not sys.stderr.isatty()) as bar:

        def report_progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield report_progress
