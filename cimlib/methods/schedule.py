"""Sets of digital stages trained ahead for each age of a chip, and chosen by the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from torch import Tensor

from cimlib.devices.effects import require

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Schedule:
    """Sets of parameters for digital stages, and from when on each of them is in use.

    Args:
        sets: (time since programming, s, ≥ 0; a :func:`~.state`), times rising. Load one by
            ``adapters.load(model, schedule.at(t))``.

    Raises ``ValueError`` for no sets, or times that are negative or do not rise.
    """

    sets: tuple[tuple[float, State], ...]

    def __post_init__(self) -> None:
        times = tuple(time for time, _ in self.sets)
        rising = all(a < b for a, b in pairwise(times))
        require(bool(times) and times[0] >= 0 and rising, "times", times, "0 ≤ rising, at least one (s)")

    def __len__(self) -> int:
        return len(self.sets)

    def at(self, t: float) -> State:
        """The set in use at ``t``, s. Raises ``ValueError`` for a time before the first."""
        first = self.sets[0][0]
        require(first <= t < float("inf"), "t", t, f"{first:g} ≤ t < ∞ (s)")
        return [chosen for time, chosen in self.sets if time <= t][-1]


def greedy(
    times: Sequence[float],
    score: Callable[[State, float], Iterable[float]],
    train: Callable[[float], State],
    *,
    initial: State,
    reference: float,
    threshold: float,
) -> Schedule:
    r"""A schedule with no more sets than seem to be needed. Ours: the paper's own algorithm is not found.

    Walk along ``times``; the current set stays in use while its mean accuracy over instances of the drift is
    at least :math:`\tau` times the reference, otherwise a new one is trained for that time.

    Args:
        times: s, > 0, rising; logarithmically spaced, as drift is.
        score: accuracies of a set at a time, %, one for each instance of the drift; of validation data.
        train: a new set for a time.
        initial: the set in use from time 0, as a rule stages not yet trained.
        reference: accuracy without drift, %, > 0.
        threshold: τ, 0 < τ ≤ 1.

    Returns the schedule, ``initial`` its first set. Raises ``ValueError`` for arguments out of range.
    """
    rising = all(a < b for a, b in pairwise((0.0, *times)))
    require(rising, "times", tuple(times), "positive and rising (s)")
    require(0 < reference < float("inf"), "reference", reference, "0 < reference < ∞ (%)")
    require(0 < threshold <= 1, "threshold", threshold, "0 < threshold ≤ 1")
    sets: list[tuple[float, State]] = [(0.0, initial)]
    for t in times:
        if np.mean(list(score(sets[-1][1], t))) < threshold * reference:
            sets.append((t, train(t)))
    return Schedule(tuple(sets))
