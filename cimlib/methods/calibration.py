r"""Calibrating a drifted network with the few numbers of its digital stages; no cell is written.

After two papers. *Efficient Calibration for RRAM-based IMC using DoRA* (arXiv 2504.03763): parameters beside
the array, ten samples, feature-based distillation layer by layer (the last from a secondary source).
*VeRA+* (arXiv 2603.26016): shared random projections, two vectors for each level of drift, trained offline,
and the set selected by time. Of both only the abstracts are known to us; what stands here is inferred from
them: :func:`distil`, :class:`AdapterTraining`, :class:`Schedule`, and :func:`greedy`, which is ours.

What they have to beat: :func:`compensate`, drift compensation by one factor for each layer or column, and
:func:`recalibrate_batchnorm`. The stages are those of :mod:`cimlib.adapters`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cimlib.adapters import Adapter, Scale, adapters, attach, parameters
from cimlib.crossbar import Crossbar, crossbars
from cimlib.devices import require
from cimlib.models import evaluating
from cimlib.train import Batch, CrossEntropy, History, Objective, fit

_DARK = 1e-4  # least mean magnitude of a read-out: no line is amplified without end


def _seen(model: nn.Module, modules: Mapping[str, nn.Module], x: Tensor) -> dict[str, tuple[Tensor, ...]]:
    """Inputs and output of ``modules`` when ``model`` sees ``x``, in the order in which they run.

    Raises ``ValueError`` for a module that does not run exactly once.
    """
    found: dict[str, tuple[Tensor, ...]] = {}
    runs = dict.fromkeys(modules, 0)

    def record(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found[name] = (*inputs, output)
            runs[name] += 1

        return hook

    handles = [module.register_forward_hook(record(name)) for name, module in modules.items()]
    try:
        with evaluating(model), torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    for name, count in runs.items():
        require(count == 1, "model", f"layer {name!r} in it, run {count} times", "layers that run once")
    return found


@contextmanager
def _stages_alone(model: nn.Module) -> Iterator[None]:
    """Within the context only the digital stages of ``model`` have gradients, and the arrays of a held chip
    are read once."""
    own = set(parameters(model))
    frozen = [p for p in model.parameters() if p.requires_grad and p not in own]
    held = [layer for layer in crossbars(model) if layer.generator is None]
    try:
        for parameter in frozen:
            parameter.requires_grad_(False)
        for layer in held:
            layer.reading = layer.read()
        yield
    finally:
        for layer in held:
            layer.reading = None
        for parameter in frozen:
            parameter.requires_grad_(True)


class _Matching(Objective):
    """Mean squared error between a stage's output and its target, both given by the number of the sample."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        index, target = batch
        return F.mse_loss(model(self.x[index], self.y[index]), target)


def distil(
    model: nn.Module,
    teacher: nn.Module,
    x: Tensor,
    *,
    epochs: int,
    lr: float,
    seed: int,
    batch_size: int = 128,
    inputs: Literal["student", "teacher"] = "student",
    cosine: bool = False,
) -> dict[str, History]:
    r"""Train the digital stages of ``model`` so that its layers give what those of ``teacher`` give.

    Layer by layer in the order in which they run, each stage minimises

    .. math:: \lVert Y_l - \mathrm{digital}(X_l, W_l X_l) \rVert^2 / \text{number of elements}

    where :math:`Y_l` is the output of the teacher's layer (inferred). No label is used. What
    the array gives to the samples is found once, so that a step costs the stage alone. Nothing but stages
    changes, BatchNorm and dropout are in evaluation mode, and a layer without a stage, or whose stage has
    nothing to train, stays as it is.

    Args:
        model: a network on hardware that holds a chip, with stages attached; trained in place.
        teacher: a network with the same names of layers, as a rule the digital one; it is not changed.
        x: (n, ...), calibration samples.
        epochs, lr, batch_size, cosine: of **each** layer, see :func:`~cimlib.train.fit`.
        seed: of the shuffling, the same for each layer.
        inputs: where :math:`X_l` is from. ``"student"``: what the layer gets in ``model`` with the layers
            before it calibrated, whose remaining errors it can repair; ``"teacher"``: what it gets in
            ``teacher``, so that layers are calibrated each for itself and could be at once.

    Returns the losses by layer, in their order. Raises ``ValueError`` for arguments out of range, a network
    with fresh errors at every pass, stages with nothing to train, and layers that the teacher does not have
    or that do not run exactly once.
    """
    require(inputs in ("student", "teacher"), "inputs", inputs, "'student', 'teacher'")
    held = all(layer.generator is None for layer in crossbars(model))
    require(held, "model", "a fresh network", "one that holds a chip: fabricate(model, chip)")
    require(len(x) > 0, "len(x)", len(x), "> 0")
    samples, histories, named = torch.arange(len(x)), dict[str, History](), dict(teacher.named_modules())
    with evaluating(model), _stages_alone(model):
        stages = {name: stage for name, stage in adapters(model).items() if list(stage.parameters())}
        known = set(stages) <= set(named)
        require(known, "teacher", sorted(named), f"a network with layers {sorted(stages)}")
        taught = _seen(teacher, {name: named[name] for name in stages}, x)
        for name, (fed, target) in taught.items():
            stage = stages[name]
            network, given = (model, x) if inputs == "student" else (stage.layer, fed)
            x_l, y_l, _ = _seen(network, {name: stage}, given)[name]
            histories[name] = fit(
                stage,
                _Matching(x_l, y_l),
                (samples, target),
                epochs=epochs,
                lr=lr,
                seed=seed,
                batch_size=batch_size,
                cosine=cosine,
            )
    return histories


class AdapterTraining(CrossEntropy):
    r"""Training digital stages end to end, through the network as it has become; for ``fit``.

    Only stages are trained. The rest has no gradient, BatchNorm keeps its statistics and dropout is off. On
    a held chip arrays are read once; a :func:`~cimlib.crossbar.fresh` network draws errors at every batch,
    which trains one set of stages for all chips.

    Args:
        teacher: a network whose logits (batch, classes) are to be matched, in evaluation mode; the loss is
            :math:`\mathrm{KL}(\text{teacher} \,\|\, \text{network})`, nats, mean over the batch, and no
            label is used. ``None``: cross-entropy with the labels.
        scale: of the logits of the network, see :class:`~cimlib.train.CrossEntropy`; 1 with a teacher.

    Raises ``ValueError`` for arguments out of range and, before training, for a network without stages
    that can be trained.
    """

    def __init__(self, teacher: nn.Module | None = None, scale: float = 1.0) -> None:
        super().__init__(scale)
        require(teacher is None or scale == 1, "scale", scale, "1 with a teacher")
        self.teacher = teacher
        self._undo = ExitStack()

    def setup(self, model: nn.Module) -> None:
        self._undo.enter_context(_stages_alone(model))

    def parameters(self, model: nn.Module) -> list[nn.Parameter]:
        return parameters(model)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        with evaluating(model):
            if self.teacher is None:
                return super().__call__(model, batch)
            x, _ = batch
            with evaluating(self.teacher), torch.no_grad():
                wanted = F.log_softmax(self.teacher(x), -1)
            return F.kl_div(F.log_softmax(model(x), -1), wanted, reduction="batchmean", log_target=True)

    def teardown(self, model: nn.Module) -> None:
        self._undo.close()


@dataclass(frozen=True)
class _Rows:
    """The cells of an array read row by row: its linear map for one-hot inputs, without stride or padding."""

    x: Tensor

    def __call__(self, weight: Tensor, bias: Tensor | None = None, x: Tensor | None = None) -> Tensor:
        x = self.x if x is None else x
        return F.linear(x, weight, bias) if weight.dim() == 2 else F.conv2d(x, weight, bias)


def _magnitude(layer: Crossbar, x: Tensor | None, per: str) -> Tensor:
    """Mean |output| of the array of ``layer``, (1,) or (out,), without its bias; ``None``: row by row."""
    if x is None:
        rows = layer.weight_shape[1:]
        weight, g, z = layer.read()
        every = torch.eye(prod(rows)).to(weight).reshape(-1, *rows)
        y = layer.hardware.circuit(_Rows(every), layer.hardware.array, g, weight, None, z)
    else:
        y = layer(x)
        if layer.bias is not None:
            y = y - layer.bias.reshape(-1, *[1] * (len(layer.weight_shape) - 2))
    columns = y.abs().movedim(1 - len(layer.weight_shape), -1).flatten(0, -2)
    mean = columns.mean(0) if per == "column" else columns.mean().reshape(1)
    return mean.clamp(min=_DARK)


@torch.no_grad()
def compensate(
    model: nn.Module,
    reference: nn.Module,
    x: Tensor | None = None,
    *,
    per: Literal["layer", "column"] = "layer",
) -> nn.Module:
    r"""Attach drift compensation: each layer's output times how much it has faded (in place; returned).

    .. math:: \hat\alpha = \overline{|Y(t_0)|} \,/\, \overline{|Y(t)|}

    of the same inputs to the same array, just programmed and now, biases excluded, both means at least
    :math:`10^{-4}` (read in public code of aihwkit; one factor for a tile there, for a whole layer here).

    Args:
        model: a network on hardware, without digital stages.
        reference: the same network on the same chip when it had just been programmed; it is not changed.
        x: (n, ...), inputs of the network; every layer is read with what it receives in ``reference``, now
            as then. ``None``: one-hot inputs of 1 to one row after the other, as in the code; then both are
            means of the magnitudes of weights. (Its documentation speaks of inputs that are all ones.)
        per: one factor for a ``"layer"``, or for each ``"column"``.

    Raises ``ValueError`` for arguments out of range, a network with stages, and layers that differ.
    """
    require(per in ("layer", "column"), "per", per, "'layer', 'column'")
    for name, network in (("model", model), ("reference", reference)):
        bare = all(layer.digital is None for layer in crossbars(network))
        require(bare, name, "a network with digital stages", "one without: detach(model)")
    then = {layer.name: layer for layer in crossbars(reference)}
    shapes = {layer.name: layer.weight_shape for layer in crossbars(model)}
    same = shapes == {name: layer.weight_shape for name, layer in then.items()}
    require(same, "reference", sorted(then), f"a network with the layers {sorted(shapes)}")
    inputs: dict[str, Tensor] = {}
    if x is not None:
        require(len(x) > 0, "len(x)", len(x), "> 0")
        inputs = {name: found[0] for name, found in _seen(reference, then, x).items()}

    def factor(layer: Crossbar) -> Adapter:
        given = inputs.get(layer.name)
        return Scale(layer, _magnitude(then[layer.name], given, per) / _magnitude(layer, given, per))

    return attach(model, factor)


@torch.no_grad()
def recalibrate_batchnorm(model: nn.Module, x: Tensor, *, batch_size: int | None = None) -> int:
    """Find the running statistics of every BatchNorm anew, on calibration samples (in place).

    Args:
        model: any network with BatchNorm; nothing else of it changes.
        x: (n, ...), calibration samples; no labels are used.
        batch_size: most samples of a forward pass, ≥ 1; statistics are the plain mean over the passes, in
            each of which layers see inputs normalised by their own batch. Default all at once.

    Returns how many numbers would be stored, a mean and a variance for each channel. Raises ``ValueError``
    for arguments out of range, a model without BatchNorm that tracks statistics, and (torch) a single value
    for a channel, of which there is no variance.
    """
    require(len(x) > 0, "len(x)", len(x), "> 0")
    size = len(x) if batch_size is None else batch_size
    whole = isinstance(size, int) and not isinstance(size, bool) and size >= 1
    require(whole, "batch_size", batch_size, "an integer ≥ 1, or None")
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    norms = [m for m in model.modules() if isinstance(m, kinds) and m.running_mean is not None]
    require(bool(norms), "model", type(model).__name__, "a network with BatchNorm that tracks statistics")
    momenta = [norm.momentum for norm in norms]
    try:
        with evaluating(model):
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # torch: the cumulative average
                norm.train()
            for batch in torch.split(x, size):
                model(batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return sum(2 * norm.num_features for norm in norms)


State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Schedule:
    """Sets of parameters for digital stages, and from when on each of them is in use.

    Args:
        sets: (time since programming, s, ≥ 0; a :func:`~cimlib.adapters.state`), times rising. Load one by
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
