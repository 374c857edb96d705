"""Four places to train a network for the same chips: digits, amplifiers with offsets, cells that wear.

Used by *Where to train*. What the paper means by its methods is not found; these definitions are ours.

- ``"offline"``: software with the designed amplifiers (gain, rails, no offsets); programmed once.
- ``"in-situ"``: outputs of the chip, gradients of perfect amplifiers at those outputs; pulses in
  proportion, to the array, at every update.
- ``"on-chip"``: outputs and gradients of the chip; one pulse a cell and update, by the gradient's sign.
- ``"hardware-conscious"``: software with the amplifiers of that very chip; programmed once.

Those trained in software may be trained on in the array for a few epochs more, and may know of the amplifiers
no more than there is to know: their spread, or a reading and how wrong readings are.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import inf
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from cimlib import Hardware, fabricate, fit, load, program
from cimlib.arrays import DoubleArray
from cimlib.circuits import OpAmp
from cimlib.devices import require
from cimlib.methods import Redrawn, posterior, shrink
from cimlib.networks import mlp
from cimlib.training import (
    CrossEntropy,
    History,
    PulseOptimizer,
    Pulses,
    Replicas,
    accuracy,
    right,
    write_verify,
)
from companion.fields import STRICT, Count, NonNegative, Positive, Scale, one_of
from companion.tasks.results import RIGHT, rounded, tenths

METHODS = ("offline", "in-situ", "on-chip", "hardware-conscious")
IN_ARRAY = ("in-situ", "on-chip")
TRAIN = 1077  # images
SHARPNESS = 10.0  # of the softmax: logits are in units of the span and end at the rails
TOLERANCE = 0.01  # of the range: a programmed cell this close is left alone


@dataclass(frozen=True, config=STRICT)
class Params:
    """``offset``: std per amplifier, V; ``mismeasured``: std of what is wrong with each offset that
    hardware-conscious training is told, V; ``believes``: it believes the ``"reading"``, or has the
    ``"posterior"``, the reading shrunk, with what is left unknown drawn anew at every batch. ``expected``:
    std of the offsets drawn anew at every batch offline, V. ``finish``: how the programmed array is trained
    on, for ``finish_epochs``, at ``finish_lr`` in situ, with ``finish_batch`` images per update. ``gain``: of
    all amplifiers, ≥ 1. ``levels``, ``potentiation``, ``depression``, ``cycle_to_cycle``, ``endurance``: the
    cell, see :class:`~.Pulses`; the default endurance was published for small steps. ``passes``: of the
    programming, at most. ``w_max``: weight of the full range. ``lr``: of Adam in software, of the weights in
    situ, without meaning on the chip, where ``levels`` is the step. ``batch``: images per update."""

    scale: Scale = "quick"
    method: Annotated[str, one_of(METHODS)] = "hardware-conscious"
    offset: NonNegative = 0.0159
    mismeasured: NonNegative = 0.0
    believes: Literal["reading", "posterior"] = "reading"
    expected: NonNegative = 0.0
    finish: Literal["none", "in-situ", "on-chip"] = "none"
    finish_epochs: Count = 1
    finish_lr: Positive = 0.003
    finish_batch: Annotated[int, Field(ge=1, le=TRAIN)] = 128
    gain: Annotated[float, Field(ge=1)] = 1369.0
    levels: Count = 100
    potentiation: float = 0.0
    depression: float = 0.0
    cycle_to_cycle: NonNegative = 0.0
    endurance: float = 1e11
    passes: Count = 50
    lr: Positive = 0.01
    epochs: Count = 20
    batch: Annotated[int, Field(ge=1, le=TRAIN)] = 32
    hidden: Count = 32
    w_max: Positive = 0.25
    chips: Count = 10

    def __post_init__(self) -> None:
        told = self.mismeasured == 0 or self.offset > 0
        require(told, "mismeasured", self.mismeasured, "0 if offset is")
        blind = self.method == "offline" or self.expected == 0
        require(blind, "expected", self.expected, f"0 with method {self.method!r}: of 'offline'")
        once = self.method not in IN_ARRAY or self.finish == "none"
        require(once, "finish", self.finish, f"'none' with method {self.method!r}, which is in the array")
        self.pulses()

    def in_array(self) -> Params:
        """The parameters of what is trained in the array: all, or what follows a training in software."""
        if self.finish == "none":
            return self
        own = {"epochs": self.finish_epochs, "lr": self.finish_lr, "batch": self.finish_batch}
        return replace(self, method=self.finish, finish="none", expected=0.0, **own)  # type: ignore[arg-type]

    def hardware(self, offset: float) -> Hardware:
        """The chip design (range, output at zero: public code of JJAP 2024; rails ours) at these offsets."""
        backward: Literal["circuit", "ideal"] = "ideal" if self.method == "in-situ" else "circuit"
        circuit = OpAmp(
            gain=self.gain, offset=offset, at_zero=0.4859, rails=(0.05, 0.95), span=0.35, backward=backward
        )
        return Hardware(array=DoubleArray(g_min=10.0, g_max=1000.0, w_max=self.w_max), circuit=circuit)

    def pulses(self) -> Pulses:
        """The cell's answer to pulses."""
        return Pulses(self.levels, self.potentiation, self.depression, self.cycle_to_cycle, self.endurance)


SCALES: dict[str, dict[str, Any]] = {
    "quick": {},
    "desk": {"chips": 20},
    "paper": {"chips": 100, "hidden": 256, "epochs": 50},
}


def data(params: Params) -> dict[str, int]:
    """Data sets used, with the number of training samples."""
    return {"digits": TRAIN}


# what training in software does not depend on, so that its networks are trained once for many kinds of cells
CELLS: dict[str, Any] = {
    name: getattr(Params(), name)
    for name in (
        *("scale", "levels", "potentiation", "depression", "cycle_to_cycle", "endurance", "passes"),
        *("finish", "finish_epochs", "finish_lr", "finish_batch"),
    )
}


def images(params: Params, split: str) -> tuple[Tensor, Tensor]:
    """One split of the digits, the same for every chip: x (n, chips, 64), y (n, chips)."""
    x, y = load("digits", split)
    return x.flatten(1)[:, None].expand(-1, params.chips, -1), y[:, None].expand(-1, params.chips)


def networks(params: Params, offset: float, train: Literal["weight", "conductance"]) -> Replicas:
    """A network on each chip, its initial weights seeded by the chip."""
    blank = [mlp(64, params.hidden, 10, bias="row", seed=chip) for chip in range(params.chips)]
    designed = [program(network, params.hardware(offset), train=train) for network in blank]
    return Replicas([fabricate(network, chip) for chip, network in enumerate(designed)])


def train(
    params: Params, model: Replicas, optimizer: PulseOptimizer | None = None, unknown: float = 0.0
) -> History:
    """The one schedule of all four methods: shuffled batches, cross-entropy of sharpened logits. ``unknown``:
    std of the offsets around those that ``model`` holds, in those of the design."""
    return fit(
        model,
        Redrawn(CrossEntropy(scale=SHARPNESS), unknown),
        images(params, "train"),
        epochs=params.epochs,
        lr=params.lr,
        seed=0,
        batch_size=params.batch,
        validation=images(params, "val"),
        optimizer=None if optimizer is None else lambda _: optimizer,
    )


@lru_cache(maxsize=64)
def software(params: Params) -> tuple[Replicas, History]:
    """Networks trained in software behind amplifiers with these offsets, as they are told; kept.

    Offline without offsets, or with those that are expected: then nothing is known but their spread.
    """
    if params.method == "offline":
        params = replace(params, offset=params.expected, mismeasured=0.0)
    model = networks(params, params.offset, "weight")
    wrong = params.mismeasured / params.offset if params.mismeasured else 0.0
    generator = torch.Generator().manual_seed(0)
    for name, z in model.named_buffers():
        if "circuit/" in name and not name.endswith("_gain"):
            z.add_(wrong * torch.randn(z.shape, generator=generator))
    error = wrong if params.believes == "posterior" else 0.0
    known = posterior(inf if params.expected else error)
    shrink(model, known.mean)
    return model, train(params, model, unknown=known.spread)


def write(model: Replicas, chips: Replicas, params: Params) -> PulseOptimizer:
    """Program ``model``'s weights into blank ``chips``; returns what counts their pulses from then on."""
    cell, array = params.pulses(), params.hardware(0.0).array
    low, high = array.g_min, array.g_max
    scale, moved = (high - low) / params.w_max, 2  # cells of a pair
    optimizer = PulseOptimizer(
        chips.parameters(),
        cell,
        g_min=low,
        g_max=high,
        lr=params.lr * scale**2 / moved,
        rule="manhattan" if params.method == "on-chip" else "proportional",
        rounding="stochastic",
        weight_dim=2,
    )
    generator = torch.Generator().manual_seed(0)
    for weight, cells in zip(model.parameters(), chips.parameters(), strict=True):
        target = torch.stack([array.target(w).cells for w in weight.detach()])
        blank = torch.full_like(target, low)
        written = write_verify(
            blank, target, cell, low, high, tolerance=TOLERANCE, passes=params.passes, generator=generator
        )
        cells.data.copy_(written.g)
        optimizer.state[cells] = {"pulses": written.pulses, "writes": written.writes}
    return optimizer


def run(params: Params) -> dict[str, Any]:
    """Train for every chip by one method, and read what the chips make of it.

    In-array methods start from initial weights programmed as the others program theirs. Returns, a
    value per chip: ``accuracy`` on the test images and ``trained``, what the last training itself saw of it
    (software: before programming), %; ``validation_error`` where training is, %; ``pulses`` and
    ``writes`` per cell, mean; ``most_pulses`` and ``most_writes`` of any cell; ``worn``: cells at the
    end of their life, %. ``curve`` (10, chips): validation error at each tenth of training, %. ``right``:
    which test images the accuracy is right about, (chips, images).
    """
    if params.method in IN_ARRAY:
        source, history = networks(params, 0.0, "weight"), History()
    else:
        unknown = {"offset": 0.0, "mismeasured": 0.0} if params.method == "offline" else {}
        source, history = software(replace(params, **CELLS | unknown))
    array = params.in_array()
    chips = networks(array, params.offset, "conductance")
    optimizer = write(source, chips, array)
    if array.method in IN_ARRAY:
        source, history = chips, train(array, chips, optimizer)
    test, check = images(params, "test"), images(params, "val")
    counts = {
        name: torch.cat([optimizer.state[p][name].flatten(1) for p in chips.parameters()], 1)
        for name in ("pulses", "writes")
    }
    hits = right(chips, *test)
    return {
        "accuracy": rounded(100 * hits.float().mean(0)),
        "trained": rounded(accuracy(source, *test)),
        "validation_error": rounded(100 - accuracy(source, *check)),
        **{name: rounded(count.double().mean(1)) for name, count in counts.items()},
        **{f"most_{name}": count.amax(1).tolist() for name, count in counts.items()},
        "worn": rounded(100 * (counts["pulses"] >= params.endurance).double().mean(1)),
        "curve": tenths(history),
        RIGHT: {"accuracy": hits.T.numpy()},
    }
