"""Four places to train a network for the same chips: digits, amplifiers with offsets, cells that wear.

Used by *Where to train*. What the paper means by its methods is not found; these definitions are ours.

- ``"offline"``: software with the designed amplifiers (gain, rails, no offsets); programmed once.
- ``"in-situ"``: outputs of the chip, gradients of perfect amplifiers at those outputs; pulses in
  proportion, to the array, at every update.
- ``"on-chip"``: outputs and gradients of the chip; one pulse a cell and update, by the gradient's sign.
- ``"hardware-conscious"``: software with the amplifiers of that very chip; programmed once.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from cimlib import Hardware, fabricate, fit, load, program
from cimlib.arrays import DoubleArray
from cimlib.circuits import OpAmp
from cimlib.devices import require
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
    hardware-conscious training is told, V. ``gain``: of all amplifiers, ≥ 1. ``levels``, ``potentiation``,
    ``depression``, ``cycle_to_cycle``, ``endurance``: the cell, see :class:`~.Pulses`; the
    default endurance was published for small steps. ``passes``: of the programming, at most. ``w_max``:
    weight of the full range. ``lr``: of Adam in software, of the weights in situ, without meaning on the
    chip, where ``levels`` is the step. ``batch``: images per update, 1 … 1,077."""

    scale: Scale = "quick"
    method: Annotated[str, one_of(METHODS)] = "hardware-conscious"
    offset: NonNegative = 0.0159
    mismeasured: NonNegative = 0.0
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
        self.pulses()

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
    for name in ("scale", "levels", "potentiation", "depression", "cycle_to_cycle", "endurance", "passes")
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


def train(params: Params, model: Replicas, optimizer: PulseOptimizer | None = None) -> History:
    """The one schedule of all four methods: shuffled batches, cross-entropy of sharpened logits."""
    return fit(
        model,
        CrossEntropy(scale=SHARPNESS),
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
    """Networks trained in software behind amplifiers with these offsets, as they are told; kept."""
    model = networks(params, params.offset, "weight")
    wrong = params.mismeasured / params.offset if params.mismeasured else 0.0
    generator = torch.Generator().manual_seed(0)
    for name, z in model.named_buffers():
        if "circuit/" in name and not name.endswith("_gain"):
            z.add_(wrong * torch.randn(z.shape, generator=generator))
    return model, train(params, model)


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
    value per chip: ``accuracy`` on the test images and ``trained``, what training itself saw of it
    (software: before programming), %; ``validation_error`` where training is, %; ``pulses`` and
    ``writes`` per cell, mean; ``most_pulses`` and ``most_writes`` of any cell; ``worn``: cells at the
    end of their life, %. ``curve`` (10, chips): validation error at each tenth of training, %. ``right``:
    which test images the accuracy is right about, (chips, images).
    """
    in_array, conscious = params.method in IN_ARRAY, params.method == "hardware-conscious"
    if in_array:
        source, history = networks(params, 0.0, "weight"), History()
    else:
        unknown = {} if conscious else {"offset": 0.0, "mismeasured": 0.0}
        source, history = software(replace(params, **CELLS | unknown))
    chips = networks(params, params.offset, "conductance")
    optimizer = write(source, chips, params)
    if in_array:
        source, history = chips, train(params, chips, optimizer)
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
