"""Images of many sizes in few buckets: every one fits, and the fewest pixels are empty."""

import itertools

import numpy as np
import pytest

from deepconv.data import decode, pipeline
from deepconv.exceptions import UserError
from deepconv.inference import buckets


def photographs(count, seed=0):
    """Return sizes as a set of photographs has them: mostly 4:3 and 3:2, some of any ratio."""
    rng = np.random.default_rng(seed)
    ratios = rng.choice([4 / 3, 3 / 2, 3 / 4, 1.0, 16 / 9], count, p=[0.5, 0.2, 0.2, 0.05, 0.05])
    odd = rng.uniform(size=count) < 0.2
    ratios = np.where(odd, np.exp(rng.uniform(-1, 1, count)), ratios)
    return np.array([decode.rescaled_size(1000, round(1000 * r), 256) for r in ratios])


def area(found):
    return sum(bucket.height * bucket.width * len(bucket.records) for bucket in found)


@pytest.mark.parametrize("most", [1, 3, 8])
def test_every_image_is_in_one_bucket_and_fits(most):
    sizes = photographs(500)
    found = buckets.lay_out(sizes, most)
    assert len(found) <= most
    records = np.concatenate([bucket.records for bucket in found])
    np.testing.assert_array_equal(np.sort(records), np.arange(500))
    for bucket in found:
        assert (sizes[bucket.records] <= (bucket.height, bucket.width)).all()
        assert (np.diff(bucket.records) > 0).all()
    areas = [bucket.height * bucket.width for bucket in found]
    assert areas == sorted(areas, reverse=True)


def test_eight_buckets_waste_little():
    sizes = photographs(5000)
    assert area(buckets.lay_out(sizes, 8)) < 1.06 * sizes.prod(axis=1).sum()


@pytest.mark.parametrize("seed", range(5))
def test_no_other_cuts_of_the_ranking_have_less_area(seed):
    sizes = photographs(9, seed)
    ranked = sizes[np.argsort(sizes[:, 1] - sizes[:, 0], kind="stable")]
    least = min(
        sum(len(run) * run.max(axis=0).prod() for run in np.split(ranked, cuts))
        for cuts in itertools.combinations(range(1, 9), 2)
    )
    assert area(buckets.lay_out(sizes, 3)) == least


def test_images_of_one_size_share_one_bucket():
    (bucket,) = buckets.lay_out(np.full((7, 2), 48), 8)
    assert (bucket.height, bucket.width, len(bucket.records)) == (48, 48, 7)
    assert buckets.lay_out(np.zeros((0, 2), int), 8) == []


@pytest.fixture
def source(encode):
    rng = np.random.default_rng(1)
    sizes = [(40, 52), (60, 41), (44, 44), (40, 90), (80, 40)]
    return [
        {
            "image": encode(rng.integers(0, 256, (*size, 3), np.uint8)),
            "label": label,
            "file_name": f"{label}.jpg".encode(),
        }
        for label, size in enumerate(sizes)
    ]


def test_a_survey_knows_sizes_labels_and_names(source):
    found = buckets.survey(source, threads=2)
    assert found.sizes.tolist() == [[40, 52], [60, 41], [44, 44], [40, 90], [80, 40]]
    assert found.labels.tolist() == [0, 1, 2, 3, 4]
    assert found.image_ids == ("0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg")
    assert found.rescaled(20).tolist() == [[20, 26], [29, 20], [20, 20], [20, 45], [40, 20]]
    assert buckets.survey([], threads=2).rescaled(20).shape == (0, 2)


def test_a_picture_that_cannot_be_read_is_named(source, truncated):
    source[3]["image"] = b"no picture"
    with pytest.raises(UserError, match=r"cannot read 3\.jpg .*every image"):
        buckets.survey(source, threads=2)
    with pytest.raises(UserError, match=r"cannot read 3\.jpg"):
        buckets.load_bucket(source, 20, 20, 45, [3])
    source[3]["image"] = truncated
    buckets.survey(source, threads=2)  # the header is whole
    with pytest.raises(UserError, match=r"cannot read 3\.jpg"):
        buckets.load_bucket(source, 20, 20, 45, [3])


def test_a_picture_too_long_to_be_held_is_named(encode):
    source = [{"image": encode(np.zeros((4, 129, 3), np.uint8)), "label": 0}]
    with pytest.raises(UserError, match="record 0 is 129x4; .* aspect ratio of 32:1"):
        buckets.survey(source, threads=1)


def test_batches_hold_the_rescaled_images_and_are_filled_up(source):
    sizes = buckets.survey(source, threads=1).rescaled(20)
    seen = []
    for bucket in buckets.lay_out(sizes, 2):
        batches = buckets.bucket_batches(source, 20, bucket, batch_size=2)
        for batch in pipeline.iter_from(batches, 0, threads=2):
            assert batch["image"].shape == (2, bucket.height, bucket.width, 3)
            for row, record in enumerate(batch["record"]):
                image, extent = batch["image"][row], batch["extent"][row]
                if record < 0:
                    assert not image.any()
                    assert extent.tolist() == [bucket.height, bucket.width]
                    continue
                seen.append(int(record))
                height, width = extent
                assert (height, width) == tuple(sizes[record])
                whole = decode.decode(source[record]["image"]).resize((width, height), 2)
                difference = np.abs(image[:height, :width] - np.asarray(whole).astype(int))
                assert difference.max() <= 2
                assert not image[height:].any()
                assert not image[:, width:].any()
    assert sorted(seen) == [0, 1, 2, 3, 4]
