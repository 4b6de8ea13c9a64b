"""Sums over batches are divided once."""

import numpy as np
import pytest

from deepconv.evaluation import protocols


def sums(images, top1, top5, loss):
    return {"images": images, "top1_error": top1, "top5_error": top5, "loss": loss}


def test_errors_are_sums_over_all_batches_divided_once():
    batches = [sums(3, 1, 0, 2.0), sums(1, 1, 1, 6.0)]
    result = protocols.center_crop(lambda _, batch: batch, None, batches)
    assert result == sums(4, 0.5, 0.25, 2.0)


def test_fifty_thousand_images_are_counted_exactly():
    batches = [sums(np.int32(256), np.int32(255), np.int32(0), np.float32(0.1))] * 200
    result = protocols.center_crop(lambda _, batch: batch, None, batches)
    assert result["images"] == 51_200
    assert result["top1_error"] == 255 / 256


def test_an_empty_set_is_refused():
    with pytest.raises(ValueError, match="no image"):
        protocols.center_crop(lambda _, batch: batch, None, [])
