"""Four places to train a network for the same chips: digits, amplifiers with offsets, cells that wear.

Used by *Where to train*. What the paper means by its methods is not found; these definitions are ours.

- ``"offline"``: software with the designed amplifiers (gain, rails, no offsets); programmed once.
- ``"in-situ"``: outputs of the chip, gradients of perfect amplifiers at those outputs; pulses in
  proportion, to the array, at every update.
- ``"on-chip"``: outputs and gradients of the chip; one pulse a cell and update, by the gradient's sign.
- ``"hardware-conscious"``: software with the amplifiers of that very chip; programmed once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from cimlib.arrays.pairs import DoubleArray
from cimlib.chip.fabrication import fabricate
from cimlib.chip.hardware import Hardware
from cimlib.chip.programming import program
from cimlib.circuits.opamp import OpAmp
from cimlib.datasets.loading import load
from cimlib.devices.effects import require
from cimlib.networks.plain import mlp
from cimlib.training.fit import History, OptimizerFactory, accuracy, fit
from cimlib.training.objectives import CrossEntropy
from cimlib.training.pulse_optimizer import PulseOptimizer
from cimlib.training.pulses import Pulses, write_verify
from cimlib.training.replicas import Replicas
from companion.experiments.deployed import rounded

METHODS = ("offline", "in-situ", "on-chip", "hardware-conscious")


IN_ARRAY = ("in-situ", "on-chip")


TRAIN = 1077  # images


SHARPNESS = 10.0  # of the softmax: logits are in units of the span and end at the rails


TOLERANCE = 0.01  # of the range: a programmed cell this close is left alone


@dataclass(frozen=True)
class Params:
    """``offset``: std per amplifier, V; ``mismeasured``: std of what is wrong with each offset that
    hardware-conscious training is told, V. ``gain``: of all amplifiers, ≥ 1. ``levels``, ``potentiation``,
    ``depression``, ``cycle_to_cycle``, ``endurance``: the cell, see :class:`~.Pulses`; the
    default endurance was published for small steps. ``passes``: of the programming, at most. ``w_max``:
    weight of the full range. ``lr``: of Adam in software, of the weights in situ, without meaning on the
    chip, where ``levels`` is the step. ``batch``: images per update, 1 … 1,077."""

    scale: str = "quick"
    method: str = "hardware-conscious"
    offset: float = 0.0159
    mismeasured: float = 0.0
    gain: float = 1369.0
    levels: int = 100
    potentiation: float = 0.0
    depression: float = 0.0
    cycle_to_cycle: float = 0.0
    endurance: float = 1e11
    passes: int = 50
    lr: float = 0.01
    epochs: int = 20
    batch: int = 32
    hidden: int = 32
    w_max: float = 0.25
    chips: int = 10

    def __post_init__(self) -> None:
        require(self.method in METHODS, "method", self.method, str(METHODS))
        for name in ("passes", "epochs", "hidden", "chips"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer ≥ 1")
        told = 0 <= self.mismeasured < float("inf") and (self.mismeasured == 0 or self.offset > 0)
        require(told, "mismeasured", self.mismeasured, "0 ≤ mismeasured < ∞ (V), 0 if offset is")
        require(self.gain >= 1, "gain", self.gain, "1 ≤ gain ≤ ∞")
        require(0 < self.lr < float("inf"), "lr", self.lr, "0 < lr < ∞")
        require(1 <= self.batch <= TRAIN, "batch", self.batch, f"1 ≤ batch ≤ {TRAIN} (images)")
        self.hardware(self.offset), self.pulses()

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


def images(split: str, chips: int) -> tuple[Tensor, Tensor]:
    """One split of the digits, the same for every chip: x (n, chips, 64), y (n, chips)."""
    x, y = load("digits", split)
    return x.flatten(1)[:, None].expand(-1, chips, -1), y[:, None].expand(-1, chips)


def networks(
    hardware: Hardware, hidden: int, chips: int, train: Literal["weight", "conductance"]
) -> Replicas:
    """A network on each chip, its initial weights seeded by the chip."""
    blank = [mlp(64, hidden, 10, bias="row", seed=chip) for chip in range(chips)]
    return Replicas([fabricate(program(net, hardware, train=train), chip) for chip, net in enumerate(blank)])


def train(
    model: Replicas, chips: int, lr: float, epochs: int, batch: int, optimizer: OptimizerFactory | None = None
) -> History:
    """The one schedule of all four methods: shuffled batches, cross-entropy of sharpened logits."""
    return fit(
        model,
        CrossEntropy(scale=SHARPNESS),
        images("train", chips),
        epochs=epochs,
        lr=lr,
        seed=0,
        batch_size=batch,
        validation=images("val", chips),
        optimizer=optimizer,
    )


@lru_cache(maxsize=64)
def software(
    hardware: Hardware, wrong: float, hidden: int, chips: int, lr: float, epochs: int, batch: int
) -> tuple[Replicas, History]:
    """Networks trained in software behind the amplifiers of ``hardware``; kept, for cells do not matter.

    ``wrong``: standard deviation of what is added to every offset's draw.
    """
    model = networks(hardware, hidden, chips, "weight")
    generator = torch.Generator().manual_seed(0)
    for name, z in model.named_buffers():
        if "circuit/" in name and not name.endswith("_gain"):
            z.add_(wrong * torch.randn(z.shape, generator=generator))
    return model, train(model, chips, lr, epochs, batch)


def write(model: Replicas, chips: Replicas, params: Params) -> PulseOptimizer:
    """Program ``model``'s weights into blank ``chips``; returns what counts their pulses from then on."""
    cell, array = params.pulses(), params.hardware(0.0).array
    generator = torch.Generator().manual_seed(0)
    moved = 2  # cells of a pair
    scale = (array.g_max - array.g_min) / params.w_max
    optimizer = PulseOptimizer(
        chips.parameters(),
        cell,
        g_min=array.g_min,
        g_max=array.g_max,
        lr=params.lr * scale**2 / moved,
        rule="manhattan" if params.method == "on-chip" else "proportional",
        rounding="stochastic",
    )
    for weight, cells in zip(model.parameters(), chips.parameters(), strict=True):
        target = torch.stack([array.target(w).cells for w in weight.detach()])
        blank = torch.full_like(target, array.g_min)
        written = write_verify(
            blank,
            target,
            cell,
            array.g_min,
            array.g_max,
            tolerance=TOLERANCE,
            passes=params.passes,
            generator=generator,
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
    end of their life, %. ``curve`` (10, chips): validation error at each tenth of training, %.
    """
    size, schedule = (params.hidden, params.chips), (params.lr, params.epochs, params.batch)
    in_array = params.method in IN_ARRAY
    conscious = params.method == "hardware-conscious"
    emulator = params.hardware(params.offset if conscious else 0.0)
    wrong = params.mismeasured / params.offset if conscious and params.mismeasured else 0.0
    if in_array:
        source, history = networks(emulator, *size, "weight"), History()
    else:
        source, history = software(emulator, wrong, *size, *schedule)
    chips = networks(params.hardware(params.offset), *size, "conductance")
    optimizer = write(source, chips, params)
    test = images("test", params.chips)
    if in_array:
        source, history = chips, train(chips, params.chips, *schedule, lambda _: optimizer)
    counts = {
        name: torch.cat([optimizer.state[p][name].flatten(1) for p in chips.parameters()], 1)
        for name in ("pulses", "writes")
    }
    tenths = [max(round(tenth * params.epochs / 10), 1) - 1 for tenth in range(1, 11)]
    return {
        "accuracy": rounded(accuracy(chips, *test)),
        "trained": rounded(accuracy(source, *test)),
        "validation_error": rounded(100 - accuracy(source, *images("val", params.chips))),
        **{name: rounded(count.double().mean(1)) for name, count in counts.items()},
        **{f"most_{name}": count.amax(1).tolist() for name, count in counts.items()},
        "worn": rounded(100 * (counts["pulses"] >= params.endurance).double().mean(1)),
        "curve": [[round(100 - value, 1) for value in history.validation[i]] for i in tenths],
    }
