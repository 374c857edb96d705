r"""Calibrating a drifted network with the few numbers of its digital stages; no cell is written.

After two papers. *Efficient Calibration for RRAM-based IMC using DoRA* (arXiv 2504.03763): parameters beside
the array, ten samples, feature-based distillation layer by layer (the last from a secondary source).
*VeRA+* (arXiv 2603.26016): shared random projections, two vectors for each level of drift, trained offline,
and the set selected by time. Of both only the abstracts are known to us; what stands here is inferred from
them: :func:`distil`, :class:`AdapterTraining`, :class:`Schedule`, and :func:`greedy`, which is ours.

What they have to beat: :func:`compensate`, drift compensation by one factor for each layer or column, and
:func:`recalibrate_batchnorm`. The stages are those of :mod:`cimlib.chip.attachment`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cimlib.chip.attachment import adapters, parameters
from cimlib.chip.crossbar import crossbars
from cimlib.devices.effects import require
from cimlib.networks.plain import evaluating
from cimlib.training.fit import History, fit
from cimlib.training.objectives import Batch, CrossEntropy, Objective, class_dim, require_finite_samples


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
        epochs, lr, batch_size, cosine: of **each** layer, see :func:`~.fit`.
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
    require_finite_samples(x)
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


def _classes(logits: Tensor, y: Tensor) -> int:
    """The dimension of ``logits`` with the classes, of which two dimensions leave no doubt."""
    shape = tuple(logits.shape)
    return class_dim(shape, shape[:-1] if len(shape) == 2 else tuple(y.shape))


class AdapterTraining(CrossEntropy):
    r"""Training digital stages end to end, through the network as it has become; for ``fit``.

    Only stages are trained. The rest has no gradient, BatchNorm keeps its statistics and dropout is off. On
    a held chip arrays are read once; a :func:`~.fresh` network draws errors at every batch,
    which trains one set of stages for all chips.

    Args:
        teacher: a network whose logits (batch, classes) are to be matched, in evaluation mode; the loss is
            :math:`\mathrm{KL}(\text{teacher} \,\|\, \text{network})`, nats, mean over the batch, and no
            label is used. Of more dimensions than two the shape of the labels says which are the classes (see
            :class:`~.CrossEntropy`), and positions are added. ``None``: cross-entropy with the labels.
        scale: of the logits of the network, see :class:`~.CrossEntropy`; 1 with a teacher.

    Raises ``ValueError`` for arguments out of range and, before training, for a network without stages
    that can be trained; at the first batch for outputs of which it cannot be told which are the classes.
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
            x, y = batch
            with evaluating(self.teacher), torch.no_grad():
                taught = self.teacher(x)
            logits, dim = model(x), _classes(taught, y)
            shapes = (tuple(logits.shape), tuple(taught.shape))
            require(shapes[0] == shapes[1], "shapes of outputs, the teacher's last", shapes, "equal")
            wanted = F.log_softmax(taught, dim)
            return F.kl_div(F.log_softmax(logits, dim), wanted, reduction="batchmean", log_target=True)

    def teardown(self, model: nn.Module) -> None:
        self._undo.close()
