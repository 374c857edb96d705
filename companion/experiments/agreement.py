"""The book's equations against ngspice: whole Iris networks, trained, on chips with offsets.

Used by *Offsets on Iris*. Needs ngspice.
"""

from __future__ import annotations

import copy
from typing import Annotated, Any

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from cimlib.bench import spice
from cimlib.chip import crossbars
from cimlib.circuits import OpAmp
from companion.experiments import offsets_iris
from companion.experiments.offsets import STRUCTURES
from companion.fields import STRICT, Count, NonNegative, Positive, Scale, one_of
from companion.tasks.iris import SIZES
from companion.tasks.iris import data as data


@dataclass(frozen=True, config=STRICT)
class Params:
    """``offset``: σ(V_os), V, one draw an amplifier. Other names: see
    :class:`companion.experiments.offsets_iris.Params`. Every seed's updated network is simulated on the
    first ``flowers`` of its test split."""

    scale: Scale = "quick"
    structure: Annotated[str, one_of(STRUCTURES)] = "double"
    offset: NonNegative = 0.01
    gain: float = 1369.0
    g_load: Positive = 1000.0
    g_constant: NonNegative = 0.0
    rails: bool = True
    seeds: Count = 1
    flowers: Annotated[int, Field(ge=1, le=SIZES[2])] = 3

    def __post_init__(self) -> None:
        self.networks()

    def networks(self) -> offsets_iris.Params:
        """The networks that are simulated."""
        names = ("structure", "offset", "gain", "g_load", "g_constant", "rails", "seeds")
        return offsets_iris.Params(**{name: getattr(self, name) for name in names})


SCALES: dict[str, dict[str, Any]] = {
    "quick": {},
    "desk": {"seeds": 3, "flowers": 10},
    "paper": {"seeds": 10, "flowers": 30},
}


def run(params: Params) -> dict[str, Any]:
    """Output voltages of every network and flower, by this library and by ngspice.

    Returns ``cimlib`` and ``ngspice`` (seeds * flowers * 3,), V, and ``ppm`` (seeds * flowers,): the largest
    relative difference of the outputs for each flower, parts per million. Raises ``RuntimeError`` without
    ngspice.
    """
    made = offsets_iris.networks(params.networks())
    ours, theirs = [], []
    for seed, network in enumerate(made.updated):
        network = copy.deepcopy(network).double()
        circuit = crossbars(network)[0].hardware.circuit
        assert isinstance(circuit, OpAmp)
        layers = spice.layers(network)
        outputs = [f"l{len(layers) - 1}_u{j}" for j in range(3)]
        for x in made.test[0][: params.flowers, seed].double():
            volts = (circuit.v_0 + circuit.span * x).tolist()
            point = spice.simulate(spice.netlist(volts, layers, v0=circuit.v_0))
            theirs.append([point[node] for node in outputs])
            with torch.no_grad():
                ours.append((circuit.v_0 + circuit.span * network(x[None])[0]).tolist())
    a, b = torch.tensor(ours, dtype=torch.float64), torch.tensor(theirs, dtype=torch.float64)
    ppm = 1e6 * ((a - b) / b).abs().amax(1)
    return {"cimlib": a.flatten().tolist(), "ngspice": b.flatten().tolist(), "ppm": ppm.tolist()}
