"""The errors of the book's chips, as the committed records drew them: they may never change.

``golden_draws.json`` holds, for the networks and the kinds of hardware of the book in float32, what
``fabricate`` and ``fresh`` draw. Uniform draws are whole numbers over 2^24 and the same on every machine: one
hash for all of a network. Normal ones go through logarithms, in whose last digit processors differ: their
number, their sum and about eight values a slot, to 1e-4.

``python tests/chip/test_golden_draws.py`` prints what is drawn now.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cimlib import Hardware, fabricate, fresh, presets, program
from cimlib.arrays import BitSliced, DoubleArray, SingleArray
from cimlib.chip import Mapped, fabricated
from cimlib.circuits import OpAmp
from cimlib.devices import PCM, Clusters, DeadLines, Device, Gaussian, StuckAt, WanReRAM
from cimlib.methods import mapped
from cimlib.networks import mlp, resnet18, vgg8

FILE = Path(__file__).with_name("golden_draws.json")
STUCK = Device(Gaussian(0.1), StuckAt(on=0.02, off=0.09))
BROKEN = Device(Clusters(on=0.01, off=0.05), DeadLines(rows=0.02, columns=0.02))

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mlp 4-8-3": lambda: program(mlp(4, 8, 3, seed=0), Hardware(STUCK)),
    "mlp 4-8-3, amplifiers": lambda: program(
        mlp(4, 8, 3, bias="row", seed=0), Hardware(STUCK, SingleArray(), OpAmp(gain=1000.0, offset=0.01))
    ),
    "mlp 64-32-10, reference of cells": lambda: program(
        mlp(64, 32, 10, seed=0), Hardware(PCM(t=1.0), SingleArray(reference_device="cell"))
    ),
    "mlp 64-32-10, clusters": lambda: program(mlp(64, 32, 10, seed=0), Hardware(BROKEN)),
    "mlp 64-32-10, in the array": lambda: program(
        mlp(64, 32, 10, seed=0), Hardware(STUCK, DoubleArray(w_max=1.0)), train="conductance"
    ),
    "mlp 784-64-10": lambda: program(mlp(784, 64, 10, seed=0), Hardware(PCM(t=3600.0))),
    "vgg8 / 8": lambda: program(vgg8(channels=1, width=1 / 8, seed=0), presets("nft-rram1")),
    "vgg8 / 8, slices": lambda: program(vgg8(width=1 / 8, seed=0), Hardware(STUCK, BitSliced())),
    "resnet18 / 8": lambda: program(resnet18(width=1 / 8, seed=0), Hardware(WanReRAM(t=1.0))),
    "vgg8 / 8, mapped": lambda: mapped(
        fabricate(program(vgg8(width=1 / 8, seed=0), Hardware(STUCK)), 0), rows=False, spares=4
    ),
}


def drawn(model: nn.Module) -> dict[str, Any]:
    """What chip 7 and two fresh passes of ``model`` draw."""
    uniform, sample, count, total = hashlib.sha256(), [], 0, 0.0
    fabricate(model, 7)
    passes = [[(module.name, module.draws()) for module in fabricated(model)]]
    fresh(model, 3)
    passes += [[(module.name, module.draws()) for module in fabricated(model)] for _ in range(2)]
    for layers in passes:
        for layer, slots in layers:
            for slot, z in sorted(slots.items()):
                assert z.dtype == torch.float32
                if slot.split("/")[1] in ("stuck", "cluster", "dead_rows", "dead_columns"):
                    uniform.update(f"{layer}/{slot}{tuple(z.shape)}".encode() + z.numpy().tobytes())
                else:
                    flat = z.double().flatten()
                    sample += flat[:: max(1, z.numel() // 8)].tolist()
                    count, total = count + z.numel(), total + float(flat.sum())
    return {
        "uniform": uniform.hexdigest()[:16],
        "normals": count,
        "sum": round(total, 3),
        "some": [round(value, 5) for value in sample],
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_draws_are_those_of_the_committed_records(name: str) -> None:
    golden = json.loads(FILE.read_text(encoding="utf-8"))[name]
    model = NETWORKS[name]()
    assert ("mapped" in name) == any(isinstance(module, Mapped) for module in model.modules())
    now = drawn(model)
    assert now["uniform"] == golden["uniform"] and now["normals"] == golden["normals"]
    assert now["sum"] == pytest.approx(golden["sum"], abs=1e-6 * golden["normals"] + 0.01)
    assert now["some"] == pytest.approx(golden["some"], abs=1e-4)


if __name__ == "__main__":
    print(json.dumps({name: drawn(make()) for name, make in NETWORKS.items()}, indent=1))
