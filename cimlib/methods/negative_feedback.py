r"""Negative feedback training: outputs that noise spoils more are subtracted from the output.

Qin et al., *Negative Feedback Training* (arXiv 2305.14561; later NeFT, TCAD 2025). A network under
training gives its output :math:`O_b` and, from the same batch, :math:`N` feedbacks :math:`O_n`:

.. math::

    O_f &= \sum_{n=1}^{N} \gamma_n O_n \qquad \text{(Eq. 1)} \\
    O_t &= a_b\,O_b - a_f\,\beta\,O_f, \quad a_b = a_f = \tfrac{1}{N+1} \qquad \text{(Eq. 2)} \\
    \mathcal L &= \mathrm{CE}\big(\mathrm{Softmax}(O_t),\,y\big) \qquad \text{(Eq. 3)}

The whole formula is printed in a figure of the released code; how it falls into three equations is
inferred from the text. :math:`a_b` and :math:`\gamma_n` are read in the released code, and so are the
values of :math:`\beta`, :math:`10^{-1} \dots 10^{-4}`, one for each network, data set and method.

Where the feedbacks come from makes two methods: :class:`OVF`, the same network with larger errors, and
:class:`IRS`, small heads on its inner layers. What they are compared with: :class:`CrossEntropy
<.CrossEntropy>` on a plain network (without noise) and on a :func:`~.fresh`
one (noise injection), and :class:`CorrectNet`. These are the paper's. Ours ask what else is in
the loss: :class:`Temperature` (:math:`\beta = 0`; since :math:`\beta\gamma_n` is small, Eq. 2 is first of
all a softmax of temperature N + 1), :class:`IRS` with ``sign=+1`` (deep supervision) and
:class:`NoiseAveraging` (as many forward passes, no feedback).

The output's errors are drawn exactly as in noise injection with the same seed, whatever the feedbacks
draw, so methods can be compared pairwise from the first batch on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cimlib.chip.crossbar import crossbars, fabricated
from cimlib.chip.hardware import Hardware
from cimlib.devices.draws import seeded
from cimlib.devices.effects import require
from cimlib.networks.plain import BATCH_NORMS
from cimlib.training.objectives import Batch, Objective, classified

Decay = Literal["rising", "falling"]


Sign = Literal[-1, 1]


BatchNorms = Literal["every", "first"]


Change = tuple[nn.Module, str, object]


def decay_factors(count: int, decay: Decay) -> tuple[float, ...]:
    r"""The factors :math:`\gamma_1 \dots \gamma_N` of ``count`` feedbacks.

    ``"rising"``: :math:`10^{n-N}`, the last one has 1; ``"falling"``: :math:`10^{1-n}`, the first one has 1.
    The released code writes :math:`10^{-i}` in the order of its lists; n is inferred from that order.
    Raises ``ValueError`` for a negative ``count`` or an unknown ``decay``.
    """
    whole = isinstance(count, int) and not isinstance(count, bool)
    require(whole and count >= 0, "count", count, "an integer ≥ 0")
    require(decay in ("rising", "falling"), "decay", decay, "'rising', 'falling'")
    falling = [10.0**-i for i in range(count)]
    return tuple(falling if decay == "falling" else reversed(falling))


def _cross_entropy(logits: Tensor, y: Tensor, factor: float) -> Tensor:
    """Mean cross-entropy of ``factor`` times logits (batch, classes), rounded as `CrossEntropy` does."""
    logits, labels = classified(logits, y)
    return F.cross_entropy(factor * logits, labels, reduction="sum") / len(y)


def _wide(output: Tensor) -> Tensor:
    """At least single precision: in bfloat16 a feedback of 10⁻³ would be rounded away."""
    return output.to(torch.promote_types(output.dtype, torch.float32))


def _branch(generator: torch.Generator, *parts: object) -> torch.Generator:
    """A generator that follows from the state of ``generator``, which it leaves as it is."""
    return seeded(*parts, int(torch.randint(2**62, (), generator=generator.clone_state())))


@contextmanager
def _changed(changes: Sequence[Change]) -> Iterator[None]:
    """Attributes of modules set within the context, and afterwards what they were."""
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    try:
        for module, name, value in changes:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


class Temperature(Objective):
    r"""Cross-entropy of :math:`O_b/T`: negative feedback training without its feedback.

    With :math:`T = N + 1` it is Eq. 1–3 at :math:`\beta = 0` (derived), on a fresh network. A control of
    ours. At ``temperature`` 1 it is noise injection.

    Args:
        temperature: T > 0.

    Raises ``ValueError`` for a ``temperature`` out of range.
    """

    def __init__(self, temperature: float) -> None:
        require(0 < temperature < float("inf"), "temperature", temperature, "0 < temperature < ∞")
        self.temperature = temperature

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        return _cross_entropy(_wide(model(x)), y, 1 / self.temperature)


class NegativeFeedback(Objective):
    """Eq. 1–3 for any feedbacks; a method says where they come from, in :meth:`outputs`.

    Args:
        count: number N of feedbacks, ≥ 0; without any it is noise injection.
        beta: strength β of the feedback, ≥ 0.
        decay: of the factors γ, see :func:`decay_factors`.
        sign: −1 subtracts the feedback (Eq. 2), +1 adds it.

    Raises ``ValueError`` for arguments out of range.
    """

    def __init__(self, count: int, beta: float, decay: Decay, sign: Sign) -> None:
        self.factors = decay_factors(count, decay)
        require(0 <= beta < float("inf"), "beta", beta, "0 ≤ beta < ∞")
        require(sign in (-1, 1), "sign", sign, "-1, 1")
        self.beta = beta
        self.sign = sign

    def outputs(self, model: nn.Module, x: Tensor) -> list[Tensor]:
        """O_b, O_1 … O_N, each (batch, classes)."""
        raise NotImplementedError

    def total(self, outputs: Sequence[Tensor]) -> Tensor:
        """(N + 1) O_t, (batch, classes), from O_b, O_1 … O_N.

        Raises ``ValueError`` for feedbacks of another shape than the output.
        """
        base, *feedbacks = map(_wide, outputs)
        shapes = [tuple(output.shape) for output in feedbacks]
        alike = all(shape == base.shape for shape in shapes)
        require(alike, "shapes of the feedbacks", shapes, f"{tuple(base.shape)}, that of the output")
        feedback = torch.zeros_like(base)
        for factor, output in zip(self.factors, feedbacks, strict=True):
            feedback = feedback + factor * output
        return base + self.sign * self.beta * feedback

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        return _cross_entropy(self.total(self.outputs(model, x)), y, 1 / (len(self.factors) + 1))


class OVF(NegativeFeedback):
    r"""Oriented variational forward: feedback from the same weights with larger errors.

    :math:`O_n` is the output at the spread :math:`\sigma_n = \sigma + n\,\Delta\sigma`, where σ is each
    layer's own. The largest spread counts most, :math:`\gamma_n = 10^{n-N}` (released code, n inferred).
    After: the OVF columns of the paper's accuracy figure, Table 1 (number of feedbacks), and its ablations
    with reversed factors (``decay="falling"``) and reversed orientation (``step=-0.05``).

    The network must be on hardware with one spread. If it is fresh, every feedback draws errors of its
    own, from generators that follow from the network's; on a held chip all passes see that chip.

    Args:
        beta: β ≥ 0. At 0 the feedback passes are made all the same: they still count in BatchNorm.
        feedbacks: N ≥ 0; 3 in the paper and in the released code.
        step: Δσ in the unit of σ, 0.05 in the paper and in the released code; σ + N Δσ ≥ 0.
        decay, sign: see :class:`NegativeFeedback`.
        layers: names of the layers whose spread is raised; by default all. The released code raises it in
            every layer of VGG-8, but in a ResNet-18 only in the first convolution and in the classifier:
            its blocks keep a spread of their own. All layers draw anew for every feedback in any case.
        bn: ``"every"``: each pass updates the running statistics of BatchNorm, output first (released
            code, in which feedbacks run from the largest spread to the smallest; here from the first to
            the last); ``"first"``: the output's pass alone. Passes are
            normalised by their own batch either way.

    Raises ``ValueError`` for arguments out of range and, before training, for a network that is not on
    hardware, unknown layers, a device without one spread, a spread that would become negative, or
    normalisations that are no BatchNorm with ``bn="first"``.
    """

    def __init__(
        self,
        *,
        beta: float,
        feedbacks: int = 3,
        step: float = 0.05,
        decay: Decay = "rising",
        sign: Sign = -1,
        layers: Collection[str] | None = None,
        bn: BatchNorms = "every",
    ) -> None:
        whole = isinstance(feedbacks, int) and not isinstance(feedbacks, bool)
        require(whole and feedbacks >= 0, "feedbacks", feedbacks, "an integer ≥ 0")
        super().__init__(feedbacks, beta, decay, sign)
        require(abs(step) < float("inf"), "step", step, "-∞ < step < ∞ (in the unit of sigma)")
        require(not isinstance(layers, str), "layers", layers, "a collection of names, not one string")
        require(bn in ("every", "first"), "bn", bn, "'every', 'first'")
        self.step = step
        self.layers = None if layers is None else frozenset(layers)
        self.bn = bn
        self._passes: list[list[Change]] | None = None

    def setup(self, model: nn.Module) -> None:
        self._passes = [self._changes(model, n + 1) for n in range(len(self.factors))]

    def _changes(self, model: nn.Module, n: int) -> list[Change]:
        """What is different in the pass of feedback n."""
        layers = {layer.name: layer for layer in crossbars(model)}
        raised = set(layers) if self.layers is None else self.layers
        require(raised <= set(layers), "layers", sorted(raised), f"some of {sorted(layers)}")
        changes: list[Change] = []
        for name in sorted(raised) if self.step else ():
            layer, sigma = layers[name], _sigma(layers[name].hardware)
            spread = round(sigma + n * self.step, 12)
            least = f"sigma + {n} step ≥ 0 (sigma = {sigma:g} in layer {name!r})"
            require(spread >= 0, "step", self.step, least)
            changes.append((layer, "hardware", layer.hardware.with_sigma(spread)))
        for module in fabricated(model):
            if module.generator is not None:
                changes.append((module, "generator", _branch(module.generator, "feedback", n, module.name)))
        if self.bn == "first":
            norms = [m for m in model.modules() if getattr(m, "track_running_stats", False)]
            odd = {type(norm).__name__ for norm in norms if not isinstance(norm, BATCH_NORMS)}
            said = "'every': they update their running statistics in every pass"
            require(not odd, "bn", f"'first' for {', '.join(sorted(odd))}", said)
            changes += [(norm, "track_running_stats", False) for norm in norms]
        return changes

    def outputs(self, model: nn.Module, x: Tensor) -> list[Tensor]:
        if self._passes is None:
            raise RuntimeError(f"{type(self).__name__} is not set up for a network: call setup(model)")
        outputs = [model(x)]
        for changes in self._passes:
            with _changed(changes):
                outputs.append(model(x))
        return outputs

    def teardown(self, model: nn.Module) -> None:
        self._passes = None


def _sigma(hardware: Hardware) -> float:
    """The spread of ``hardware``; raises ``ValueError`` unless it has one."""
    found: list[float] = [effect.sigma for effect in hardware.cell.effects if hasattr(effect, "sigma")]
    require(len(found) == 1, "hardware.device", hardware.device, "a device with one spread sigma")
    return found[0]


class NoiseAveraging(OVF):
    r"""Noise injection with the mean loss of several draws: what more forward passes alone bring.

    .. math:: \mathcal L = \frac{1}{P}\sum_{p=1}^{P} \mathrm{CE}\big(\mathrm{Softmax}(O_p/T),\,y\big)

    All passes are at the network's own σ, the first with the draws of noise injection. A control of ours:
    with ``passes`` = N + 1 it costs what :class:`OVF` costs, and its gradient is that of noise injection
    (at temperature T) with less noise. The mean of the *outputs* is another thing: it is Eq. 2 with the
    feedback added, β = 1 and all γ = 1.

    Args:
        passes: P ≥ 1.
        temperature: T > 0.
        bn: see :class:`OVF`.

    Raises ``ValueError`` for arguments out of range, and as :class:`OVF` does.
    """

    def __init__(self, passes: int = 4, temperature: float = 1.0, bn: BatchNorms = "every") -> None:
        whole = isinstance(passes, int) and not isinstance(passes, bool)
        require(whole and passes >= 1, "passes", passes, "an integer ≥ 1")
        require(0 < temperature < float("inf"), "temperature", temperature, "0 < temperature < ∞")
        super().__init__(beta=0.0, feedbacks=passes - 1, step=0.0, bn=bn)
        self.temperature = temperature

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        outputs = self.outputs(model, x)
        losses = [_cross_entropy(_wide(output), y, 1 / self.temperature) for output in outputs]
        return torch.stack(losses).mean()
