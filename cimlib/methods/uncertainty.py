r"""Training that knows how little it knows of a chip's amplifiers.

An emulator is told an offset :math:`\hat o = o + \varepsilon z`, wrong by a known standard deviation ε, of an
amplifier of a design whose offsets have the standard deviation σ. All of it being normal, what is known of
o is normal, too (derived; Bayes' rule for a normal mean):

.. math:: o \mid \hat o \sim \mathcal N\big(k\,\hat o,\ (1 - k)\,\sigma^2\big), \qquad
    k = \frac{\sigma^2}{\sigma^2 + \varepsilon^2} .

To train with :math:`\hat o` is to believe it. To train with :math:`k\,\hat o` and offsets that are drawn anew
from the rest at every batch is to know its error. At ε → ∞ nothing is known of the chip and the design's
spread is left: training for every chip at once, as :func:`~.fresh` does it, here for networks side by side.

Draws are in units of σ, so that all there is to say is the ratio ε/σ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cimlib.devices.draws import seeded
from cimlib.devices.effects import require, require_whole
from cimlib.training.objectives import Batch, Objective

_STAGES = ("converter", "reference", "subtractor", "comparator", "follower")


class Posterior(NamedTuple):
    """What is known of a normal draw that was read with an error: ``mean`` is the factor of the reading,
    ``spread`` the standard deviation that is left, both in units of the design's."""

    mean: float
    spread: float


def posterior(error: float) -> Posterior:
    """Of draws that are told with an ``error`` of that many of the design's standard deviations, 0 … ∞.

    Raises ``ValueError`` for an ``error`` out of range.
    """
    require(error >= 0, "error", error, "0 ≤ error ≤ ∞ (standard deviations of the design)")
    mean = 1 / (1 + error**2)
    return Posterior(mean, sqrt(1 - mean))


def shrink(model: nn.Module, factor: float) -> nn.Module:
    """Multiply the offsets that ``model`` holds by ``factor``, in place; see :func:`posterior`.

    Args:
        model: a network, or :class:`~.Replicas` of one, behind :class:`~.OpAmp` that holds a chip. It is an
            emulator from then on: :func:`~.fabricate` would draw the chip's own again.
        factor: 0 ≤ factor ≤ 1.

    Raises ``ValueError`` for a factor out of range and a model without such draws.
    """
    require(0 <= factor <= 1, "factor", factor, "0 ≤ factor ≤ 1")
    for module, name, held in _offsets(model):
        module._buffers[name] = factor * held
    return model


class Redrawn(Objective):
    """Another objective, before each batch of which the offsets are drawn anew around those that are held.

    Args:
        objective: what is minimised.
        spread: standard deviation of the draws, in those of the design, ≥ 0; at 0 nothing is drawn.
        seed: of the draws, ≥ 0; they go on from training to training.

    Validation and whatever comes after training see the offsets that are held. Raises ``ValueError`` for
    arguments out of range and, before training, for a model as :func:`shrink` does.
    """

    def __init__(self, objective: Objective, spread: float, seed: int = 0) -> None:
        require(0 <= spread < float("inf"), "spread", spread, "0 ≤ spread < ∞")
        require_whole("seed", seed, 0)
        self.objective, self.spread = objective, spread
        self.generator = seeded("redrawn", seed)

    def setup(self, model: nn.Module) -> None:
        list(_offsets(model))
        self.objective.setup(model)

    def parameters(self, model: nn.Module) -> Iterable[nn.Parameter]:
        return self.objective.parameters(model)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        held = list(_offsets(model)) if self.spread else []
        try:
            for module, name, z in held:
                noise = torch.randn(z.shape, generator=self.generator).to(z)
                module._buffers[name] = z + self.spread * noise
            return self.objective(model, batch)
        finally:
            for module, name, z in held:
                module._buffers[name] = z

    def teardown(self, model: nn.Module) -> None:
        self.objective.teardown(model)


def _offsets(model: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """The draws of amplifiers' offsets: whose buffer, by which name, and what it holds."""
    found = [
        (module, name, z)
        for module in model.modules()
        for name, z in module._buffers.items()
        if z is not None and name.partition("circuit/")[2] in _STAGES
    ]
    require(bool(found), "model", "no offsets held", "a network behind OpAmp: fabricate(model, chip)")
    return iter(found)
