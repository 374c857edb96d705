"""The reference circuits: what they are, and what ngspice says of them.

`python tests/oracle.py` makes those of the grid anew, in tests/circuits/: inputs rounded so that a
file holds them exactly, voltages and currents to all digits of a double. Voltages along wires are
left out; the currents at the ends of the wires depend on all of them.
"""

import json
import re
import subprocess
import sys
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np

from cimlib.spice import Amplifier, Layer, netlist, simulate

FOLDER = Path(__file__).parent / "circuits"
V0 = 0.5
SEED = 1  # keeps every ReLU away from its threshold, which the tests require
WIRES = [  # rows × columns, Ω along rows, Ω along columns
    *((m, n, 1.0, 1.0) for m, n in ((1, 1), (1, 5), (5, 1), (2, 3), (8, 8), (16, 16), (32, 32))),
    *((8, 8, row, column) for row, column in ((0.0, 0.0), (0.0, 5.0), (5.0, 0.0), (2.5, 1.0))),
    (32, 32, 5.0, 2.5),
]
EFFECTS = {  # gain, output at zero input, σ of the offsets, rails, Ω along columns
    "ideal": (1e6, V0, 0.0, None, 0.0),
    "offset": (1e6, V0, 15.9e-3, None, 0.0),
    "gain": (163.0, 0.4616, 0.0, None, 0.0),
    "all": (1369.0, 0.4859, 15.9e-3, None, 0.0),
    "rails": (1369.0, 0.4859, 15.9e-3, (0.4, 0.55), 0.0),
    "wires": (1369.0, 0.4859, 15.9e-3, None, 5.0),
}
AMPLIFIED = [  # structure, layer sizes, effect, whether ReLUs follow hidden layers
    *((s, (6, 4), effect) for s in ("pair", "column", "constant-term") for effect in EFFECTS),
    *((s, (1, 1), "all") for s in ("pair", "column", "constant-term")),
    *((s, (32, 8), "all") for s in ("pair", "column", "constant-term")),
    *((s, (4, 8, 3), effect) for s in ("pair", "column") for effect in ("all", "rails")),
]
GRID = [f"currents-{m}x{n}-{row:g}-{column:g}" for m, n, row, column in WIRES]
GRID += [f"{structure}-{'x'.join(map(str, sizes))}-{effect}" for structure, sizes, effect in AMPLIFIED]


def _cells(rng, m, n):
    """Conductances between 10 and 100 µS, every fifth cell open unless there is only one, in S."""
    connected = (rng.random((m, n)) > 0.2) | (m * n == 1)
    return np.round(rng.uniform(1e-5, 1e-4, (m, n)) * connected, 8)


def _layer(rng, structure, m, n, effect, hidden):
    gain, zero, sigma, rails, r_col = EFFECTS[effect]
    reference = _cells(rng, m, n) if structure == "pair" else np.full((m, 1), 5.5e-5)
    stages = {"pair": ("bp", "bn", "u"), "column": ("b", "u"), "constant-term": ("u",)}[structure]
    names = [f"{stage}{j}" for stage in stages + ("y",) * hidden for j in range(n)]
    names += {"pair": [], "column": ["bref"], "constant-term": ["br"]}[structure]
    offsets = np.round(rng.normal(0, sigma, len(names)), 5)
    amplifiers = {
        name: Amplifier(gain, float(o), zero, rails) for name, o in zip(names, offsets, strict=True)
    }
    relu = np.round(rng.normal(0, sigma, n), 5).tolist() if hidden else None
    cells = _cells(rng, m, n)
    return Layer(structure, cells, reference, amplifiers, g_load=2.5e-4, r_col=r_col, relu=relu)


def _grid():
    for name, (m, n, r_row, r_col) in zip(GRID, WIRES, strict=False):
        rng = np.random.default_rng(SEED + m * n)
        layer = Layer("currents", _cells(rng, m, n), r_row=r_row, r_col=r_col)
        yield name, np.round(rng.uniform(0, 0.2, m), 4), [layer], 0.0
    for name, (structure, sizes, effect) in zip(GRID[len(WIRES) :], AMPLIFIED, strict=True):
        rng = np.random.default_rng(SEED + sum(sizes))
        pairs = list(pairwise(sizes))
        layers = [_layer(rng, structure, *pair, effect, pair != pairs[-1]) for pair in pairs]
        yield name, np.round(V0 + rng.uniform(-0.1, 0.35, sizes[0]), 4), layers, V0


def read(name):
    """Arguments of `netlist`, and the operating point that is committed."""
    case = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    for layer in case["layers"]:
        layer["amplifiers"] = {key: Amplifier(**one) for key, one in layer["amplifiers"].items()}
    layers = [Layer(**layer) for layer in case["layers"]]
    return {"voltage": case["voltage"], "layers": layers, "v0": case["v0"]}, case["operating_point"]


def solve(arguments):
    """Operating point by ngspice, without what lies along wires and what is given."""
    found = simulate(netlist(**arguments))
    return {name: value for name, value in found.items() if not re.search(r"_[wb]$|^x|^v0$|\(vx|\(vv0", name)}


def write():
    """Make every circuit of the grid anew."""
    FOLDER.mkdir(exist_ok=True)
    version = subprocess.run(["ngspice", "--version"], capture_output=True, text=True, check=True).stdout
    for name, voltage, layers, v0 in _grid():
        arguments = {"voltage": voltage.tolist(), "layers": layers, "v0": v0}
        point = solve(arguments)
        plain = [asdict(layer) for layer in layers]
        case = {"made_by": re.search(r"ngspice-\d+", version)[0], **arguments, "layers": plain}
        case["operating_point"] = point
        text = json.dumps(case, default=np.ndarray.tolist)
        text = re.sub(r'(, )("(?:voltage|layers|v0|operating_point)":|\[)', r",\n \2", text)
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(write())
