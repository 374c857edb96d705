"""Intervals cover chips and images: checked on tables whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cimlib.chip import interval
from companion.claims.intervals import Sample, of_mean, of_ratio, of_resamples, resampled


def table(rng, rows, images, of_rows, of_images, rest):
    """Crossed random effects around zero."""
    effects = of_rows * rng.standard_normal((rows, 1)) + of_images * rng.standard_normal((1, images))
    return Sample((d := effects + rest * rng.standard_normal((rows, images))).mean(1), d.astype(np.float32))


@pytest.mark.parametrize(
    ("of_rows", "of_images"), [(1.0, 0.0), (0.3, 3.0), (0.05, 3.0), (0.0, 3.0), (0.0, 0.0)]
)
def test_it_covers_the_truth_in_95_of_100_tables_whatever_varies(of_rows, of_images):
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(600):
        low, high = of_mean(table(rng, 10, 100, of_rows, of_images, 1.0))
        held += low < 0 < high
    assert 0.93 * 600 < held <= 600


def test_an_interval_over_chips_alone_does_not_where_images_vary():
    rng = np.random.default_rng(0)
    tables = [table(rng, 10, 100, 0.05, 3.0, 1.0) for _ in range(200)]
    held = sum(low < 0 < high for low, high in (interval(one.values) for one in tables))
    assert held < 100


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=12, unique=True))
@settings(max_examples=50, deadline=None)
def test_where_all_images_say_the_same_it_is_students_t_over_chips(values):
    values = np.array(values)
    right = np.repeat(values[:, None], 200, axis=1).astype(np.float32)
    expected = interval(right.astype(float).mean(1))
    assert of_mean(Sample(values, right)) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_where_all_chips_say_the_same_it_is_students_t_over_images():
    right = np.repeat(np.random.default_rng(0).standard_normal((1, 500)), 4, axis=0)
    low, high = of_mean(Sample(right.mean(1), right.astype(np.float32)))
    half = stats.t.ppf(0.975, 499) * right[0].std(ddof=1) / 500**0.5
    assert (low, high) == pytest.approx((right.mean() - half, right.mean() + half), rel=1e-5)


def test_one_value_has_no_interval_and_equal_ones_one_without_width():
    one = Sample(np.ones(1), np.ones((1, 5), np.float32))
    assert np.isnan(of_mean(one)).all()
    same = Sample(np.full(3, 97.0), np.full((3, 5), 97.0, np.float32))
    assert of_mean(same) == (97.0, 97.0)


def test_resampling_spreads_as_the_formula_says():
    sample = table(np.random.default_rng(1), 40, 400, 0.3, 3.0, 0.5)
    low, high = of_mean(sample)
    drawn = resampled([sample], lambda x: x.mean(-1))
    assert drawn.std() == pytest.approx((high - low) / 2 / 1.98, rel=0.12)


def ratio(x, y):
    return x.mean(-1) / y.mean(-1)


def test_a_paired_ratio_is_narrower_than_an_unpaired_one():
    rng = np.random.default_rng(2)
    common = 50 + 20 * rng.standard_normal((10, 1)) + 10 * rng.standard_normal((1, 300))
    a, b = (
        Sample((d := common + rng.standard_normal((10, 300))).mean(1), d.astype(np.float32)) for _ in "ab"
    )
    other = Sample(b.values[::-1].copy(), b.right[::-1, ::-1].copy())
    (low, high), (wide_low, wide_high) = of_ratio(a, b), of_ratio(a, other)
    assert low < 1 < high and 5 * (high - low) < wide_high - wide_low


def test_a_ratio_by_its_formula_spreads_as_its_resamples():
    rng = np.random.default_rng(3)
    tables = (table(rng, 40, 400, 0.3, 3.0, 0.5) for _ in range(2))
    a, b = (Sample(50 + one.values, 50 + one.right) for one in tables)
    (low, high), (other_low, other_high) = of_ratio(a, b), of_resamples([a, b], ratio)
    assert (low + high) / 2 == pytest.approx(ratio(a.values, b.values))
    assert high - low == pytest.approx(other_high - other_low, rel=0.15)
    values = of_ratio(Sample(a.values), Sample(b.values))
    assert np.subtract(*values) == pytest.approx(
        np.subtract(*of_resamples([Sample(a.values), Sample(b.values)], ratio)), rel=0.15
    )


def test_a_standard_deviation_is_resampled():
    sample = table(np.random.default_rng(4), 30, 200, 2.0, 0.1, 0.1)
    low, high = of_resamples([sample], lambda x: x.std(-1, ddof=1))
    assert low < sample.values.std(ddof=1) < high


def test_a_difference_is_taken_image_by_image_and_chips_alone_count_where_images_are_not_the_same():
    a = Sample(np.array([1.0, 2.0]), np.array([[0, 2], [2, 2]], np.float32))
    b = Sample(np.array([1.0, 1.0]), np.array([[2, 0], [2, 0]], np.float32))
    assert np.array_equal((a - b).right, [[-2, 2], [0, 2]]) and np.array_equal((a - b).values, [0, 1])
    assert (a - Sample(b.values)).right is None and (a - Sample(b.values, b.right[:, :1])).right is None
