"""Sums over batches are divided once."""

import numpy as np
import pytest

from deepconv.evaluation import protocols
from deepconv.evaluation.errors import Counts


def test_errors_are_sums_over_all_batches_divided_once():
    batches = [Counts(3, 1, 0, 2.0), Counts(1, 1, 1, 6.0)]
    result = protocols.center_crop(lambda _, batch: batch, None, batches)
    assert result == protocols.Result(images=4, top1_error=0.5, top5_error=0.25, loss=2.0)


def test_fifty_thousand_images_are_counted_exactly():
    batches = [Counts(np.int32(256), np.int32(255), np.int32(0), np.float32(0.1))] * 200
    result = protocols.center_crop(lambda _, batch: batch, None, batches)
    assert result.images == 51_200
    assert result.top1_error == 255 / 256


def test_an_empty_set_is_refused():
    with pytest.raises(ValueError, match="no image"):
        protocols.center_crop(lambda _, batch: batch, None, [])
