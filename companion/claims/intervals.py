r"""Intervals that cover all that was drawn: the chips or trainings, and the images that all of them share.

Ten chips that read the same thousand images are not ten thousand independent looks: another thousand images
would move all ten alike. A table of right and wrong, chips × images, is therefore taken as crossed random
effects, :math:`d_{ci} = \mu + a_c + b_i + e_{ci}` (two-way analysis of variance, one value a cell), of
whose mean the variance is

.. math:: (MS_c + MS_i - MS_e) / (n_c n_i), \qquad MS_c = n_i s^2(\bar d_{c\cdot}),\;
   MS_i = n_c s^2(\bar d_{\cdot i}),

with Satterthwaite's degrees of freedom. Without images it is Student's t over the values. A ratio of means is
brought to that by the delta method; a standard deviation is resampled both ways at once, percentile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cimlib.chip.montecarlo import Values, interval

RESAMPLES = 1000
Estimator = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Sample:
    """What was measured: a value for each chip, seed or training.

    Args:
        values: (n,).
        right: (n, images), of accuracies the share of chips, %, that are right about each image, so that
            their mean over images is the value; ``None`` if there are no images that all values share.
    """

    values: Values
    right: NDArray[np.float32] | None = None

    @property
    def images(self) -> int:
        """How many images all values share; 0 for none."""
        return 0 if self.right is None else self.right.shape[1]

    def rows(self, places: list[int]) -> Sample:
        """The values at these ``places``, each as often as it is there."""
        return Sample(self.values[places], None if self.right is None else self.right[places])

    def __mul__(self, factor: float) -> Sample:
        right = None if self.right is None else self.right * np.float32(factor)
        return Sample(self.values * factor, right)

    __rmul__ = __mul__

    def __sub__(self, other: Sample) -> Sample:
        both = self.right is not None and other.right is not None and self.images == other.images
        right = self.right - other.right if both else None  # type: ignore[operator]
        return Sample(self.values - other.values, right)


def of_mean(sample: Sample) -> tuple[float, float]:
    """95 % interval of the mean of ``sample``: (low, high); (nan, nan) for one value."""
    if sample.right is None or min(sample.right.shape) < 2:
        return interval(sample.values)
    d = sample.right.astype(np.float64)
    rows, images = d.shape
    mean, by_row, by_image = d.mean(), d.mean(1), d.mean(0)
    rest = d - by_row[:, None] - by_image + mean
    of_rows, of_images = images * by_row.var(ddof=1), rows * by_image.var(ddof=1)
    of_rest = (rest**2).sum() / ((rows - 1) * (images - 1))
    total = max(of_rows + of_images - of_rest, of_rows, of_images)  # no variance is below zero
    if total == 0:
        return float(mean), float(mean)
    parts = of_rows**2 / (rows - 1) + of_images**2 / (images - 1) + of_rest**2 / ((rows - 1) * (images - 1))
    freedom = max(total**2 / parts, rows - 1)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(total / (rows * images))
    return float(mean - half), float(mean + half)


def of_ratio(above: Sample, below: Sample) -> tuple[float, float]:
    """95 % interval of the ratio of the means of two paired samples: (low, high).

    That of the mean of (above − ratio · below) / mean(below), which is zero at that ratio (delta method).
    """
    mean = float(below.values.mean())
    if mean == 0:
        raise ValueError("a mean of 0 is not allowed; allowed: another, for it is divided by")
    ratio = float(above.values.mean()) / mean
    low, high = of_mean((above - ratio * below) * (1 / mean))
    return ratio + low, ratio + high


def resampled(samples: Sequence[Sample], estimator: Estimator) -> Values:
    """``estimator`` of :data:`RESAMPLES` resamples of values and images: (resamples,).

    Args:
        samples: paired, (n,) each; images are resampled if all have as many, which they share.
        estimator: a function of as many arrays (resamples, n) as there are samples, over the last axis.

    All that is resampled with as many values, or as many images, is resampled alike.
    """
    n = len(samples[0].values)
    chosen = _rows(n)
    drawn, shared = [], len({sample.images for sample in samples}) == 1
    for sample in samples:
        if sample.right is None or not shared:
            drawn.append(sample.values[chosen])
        else:
            means = _means(sample.right)
            drawn.append(np.take_along_axis(means, chosen, axis=1))
    return np.asarray(estimator(*drawn), dtype=np.float64)


@cache
def _rows(n: int) -> NDArray[np.int64]:
    return np.random.default_rng((0, n)).integers(n, size=(RESAMPLES, n))


@cache
def _counts(images: int) -> NDArray[np.float32]:
    """How often each image is in each resample, (images, resamples)."""
    rng = np.random.default_rng((1, images))
    return rng.multinomial(images, np.full(images, 1 / images), RESAMPLES).T.astype(np.float32)


def _means(right: NDArray[np.float32]) -> Values:
    """Means over resampled images, (resamples, n)."""
    images = right.shape[1]
    means: Values = (right @ _counts(images)).T.astype(np.float64) / images
    return means


def of_resamples(samples: Sequence[Sample], estimator: Estimator) -> tuple[float, float]:
    """95 % percentile interval of what has no formula, the same every time: (low, high).

    Values and images are resampled :data:`RESAMPLES` times; values alone, where they share no images, ten
    times as often.
    """
    if any(sample.images for sample in samples):
        low, high = np.percentile(resampled(samples, estimator), [2.5, 97.5])
    else:
        values, rng = [sample.values for sample in samples], np.random.default_rng(0)
        found = stats.bootstrap(values, partial(_along, estimator), paired=True, method="percentile", rng=rng)
        low, high = found.confidence_interval
    return float(low), float(high)


def _along(estimator: Estimator, *values: Any, axis: int) -> Any:
    """``estimator`` of ``values`` along ``axis``, as scipy asks for it."""
    return estimator(*(np.moveaxis(each, axis, -1) for each in values))
