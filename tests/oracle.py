"""The reference circuits: what they are, and what ngspice says of them.

`python tests/oracle.py` makes those of the grid anew, in tests/oracle_circuits/: inputs rounded so that a
file holds them exactly, voltages and currents to all digits of a double. Voltages along wires are
left out; the currents at the ends of the wires depend on all of them. Each structure has a whole network
trained on Iris for its chip's amplifiers, shown a flower of each class. Amplifiers that are measured are read
with nothing driven, and driven.
"""

import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from cimlib import Hardware, fabricate, fit, load, program
from cimlib.arrays import DoubleArray, SingleArray
from cimlib.bench import Amplifier, Layer, layers, netlist, simulate
from cimlib.circuits import OpAmp
from cimlib.networks import mlp
from cimlib.training import CrossEntropy

FOLDER = Path(__file__).parent / "oracle_circuits"
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
    "term": (1369.0, 0.4859, 15.9e-3, (0.05, 0.95), 0.0),  # g_constant is another than g_load
}
AMPLIFIED = [  # structure, layer sizes, effect, whether ReLUs follow hidden layers
    *(
        (s, (6, 4), effect)
        for s in ("pair", "column", "constant-term")
        for effect in EFFECTS
        if effect != "term"
    ),
    ("constant-term", (6, 4), "term"),
    *((s, (1, 1), "all") for s in ("pair", "column", "constant-term")),
    *((s, (32, 8), "all") for s in ("pair", "column", "constant-term")),
    *((s, (4, 8, 3), effect) for s in ("pair", "column") for effect in ("all", "rails")),
]
OPAMP = OpAmp(gain=1369, gain_spread=0.1, offset=0.01, at_zero=0.4859, rails=(0.05, 0.95), v_0=V0, span=0.35)
IRIS = {  # the array in which each trained network lies
    "pair": DoubleArray(g_min=10, g_max=1000, w_max=1.0, zero_state=True),
    "column": SingleArray(g_min=10, g_max=1000, w_max=0.35),
    "constant-term": SingleArray(g_min=10, g_max=1000, w_max=0.5, reference="constant-term"),
}
FLOWERS = ("setosa", "versicolor", "virginica")
MEASURING = {"measuring-undriven": V0, "measuring-driven": 0.52}  # V of the one row
GRID = [f"currents-{m}x{n}-{row:g}-{column:g}" for m, n, row, column in WIRES]
GRID += [f"{structure}-{'x'.join(map(str, sizes))}-{effect}" for structure, sizes, effect in AMPLIFIED]
GRID += [f"iris-{structure}-{flower}" for structure in IRIS for flower in FLOWERS]
GRID += list(MEASURING)
BARE = {  # without amplifiers: structure, layer sizes, Ω along rows, Ω along columns, tile
    "bare-pair-4x8x3": ("pair", (4, 8, 3), 0.0, 0.0, None),
    "bare-column-4x8x3": ("column", (4, 8, 3), 0.0, 0.0, None),
    "bare-constant-term-4x8x3": ("constant-term", (4, 8, 3), 0.0, 0.0, None),
    "bare-pair-8x6-wires": ("pair", (8, 6), 2.5, 1.0, None),
    "bare-column-8x6-wires": ("column", (8, 6), 2.5, 1.0, None),
    "bare-constant-term-8x6-wires": ("constant-term", (8, 6), 2.5, 1.0, None),
    "bare-pair-8x6-tiles": ("pair", (8, 6), 5.0, 2.5, (3, 4)),
    "bare-column-8x6-tiles": ("column", (8, 6), 5.0, 2.5, (3, 4)),
}
OWN = {  # each column with feedback of its own: structure, effect
    "own-pair-6x4-all": ("pair", "all"),
    "own-column-6x4-all": ("column", "all"),
    "own-column-6x4-rails": ("column", "rails"),
    "own-constant-term-6x4-all": ("constant-term", "all"),
    "own-constant-term-6x4-term": ("constant-term", "term"),
}
GRID += [*BARE, *OWN]


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
    options = {
        "g_load": 2.5e-4,
        "r_col": r_col,
        "relu": relu,
        "g_constant": 6e-4 if effect == "term" else None,
    }
    return Layer(structure, cells, reference, amplifiers, **options)


def _loads(rng, n):
    """Feedback of every column, S."""
    return np.round(rng.uniform(1e-4, 6e-4, n), 6).tolist()


def _bare(rng, structure, m, n, r_row, r_col, tile, hidden):
    cells = _cells(rng, m, n)
    reference = _cells(rng, m, n) if structure == "pair" else np.full((m, 1), 5.5e-5)
    shift = np.round(rng.normal(0, 0.05, n), 4).tolist()
    relu = [0.0] * n if hidden else None
    options = {"r_row": r_row, "r_col": r_col, "relu": relu, "shift": shift, "tile": tile}
    return Layer(structure, cells, reference, None, _loads(rng, n), **options)


def _trained(array):
    """A network fitted to chip 2 of this array, of conductances rounded to 1 nS and voltages to 10 µV."""
    model = fabricate(program(mlp(4, 8, 3, bias="row", seed=0), Hardware(array=array, circuit=OPAMP)), 2)
    fit(model, CrossEntropy(scale=50), load("iris"), epochs=300, lr=0.005, seed=0, batch_size=32)
    for layer in layers(model):
        amplifiers = {
            name: replace(one, gain=round(one.gain, 1), offset=round(one.offset, 5))
            for name, one in layer.amplifiers.items()
        }
        yield replace(
            layer,
            conductance=np.round(layer.conductance, 9),
            reference=np.round(layer.reference, 9),
            amplifiers=amplifiers,
            g_load=round(layer.g_load, 9),
            relu=None if layer.relu is None else np.round(layer.relu, 5).tolist(),
        )


def _measuring():
    """One neuron whose converters are read at noise gains of 10 and 5, each amplifier with its own offset."""
    parts = {"bp0": (1369.0, 4e-3), "bn0": (1200.0, 2e-3), "u0": (1500.0, -3e-3), "y0": (1300.0, 6e-3)}
    amplifiers = {
        name: Amplifier(gain, offset, OPAMP.at_zero, OPAMP.rails) for name, (gain, offset) in parts.items()
    }
    return Layer("pair", np.array([[9e-4]]), np.array([[4e-4]]), amplifiers, g_load=1e-4, relu=[1e-3])


def _grid():
    for name, (m, n, r_row, r_col) in zip(GRID, WIRES, strict=False):
        rng = np.random.default_rng(SEED + m * n)
        layer = Layer("currents", _cells(rng, m, n), r_row=r_row, r_col=r_col)
        yield name, np.round(rng.uniform(0, 0.2, m), 4), [layer], 0.0
    for name, (structure, sizes, effect) in zip(GRID[len(WIRES) :], AMPLIFIED, strict=False):
        rng = np.random.default_rng(SEED + sum(sizes))
        pairs = list(pairwise(sizes))
        network = [_layer(rng, structure, *pair, effect, pair != pairs[-1]) for pair in pairs]
        yield name, np.round(V0 + rng.uniform(-0.1, 0.35, sizes[0]), 4), network, V0
    x, y = load("iris", "test")
    for structure, array in IRIS.items():
        network = list(_trained(array))
        for label, flower in enumerate(FLOWERS):
            signal = x[y == label][2].double().numpy()
            yield f"iris-{structure}-{flower}", np.round(V0 + OPAMP.span * signal, 4), network, V0
    for name, volt in MEASURING.items():
        yield name, np.array([volt]), [_measuring()], V0
    for name, (structure, sizes, *wires) in BARE.items():
        rng, pairs = np.random.default_rng(SEED), list(pairwise(sizes))
        network = [_bare(rng, structure, *pair, *wires, pair != pairs[-1]) for pair in pairs]
        yield name, np.round(V0 + rng.uniform(-0.1, 0.35, sizes[0]), 4), network, V0
    for name, (structure, effect) in OWN.items():
        rng = np.random.default_rng(SEED)
        layer = replace(_layer(rng, structure, 6, 4, effect, False), g_load=_loads(rng, 4))
        yield name, np.round(V0 + rng.uniform(-0.1, 0.35, 6), 4), [layer], V0


def read(name):
    """Arguments of `netlist`, and the operating point that is committed."""
    case = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    for layer in case["layers"]:
        for name, one in (layer["amplifiers"] or {}).items():
            rails = None if one["rails"] is None else tuple(one["rails"])
            layer["amplifiers"][name] = Amplifier(**one | {"rails": rails})
    network = [Layer(**layer) for layer in case["layers"]]
    return {"voltage": case["voltage"], "layers": network, "v0": case["v0"]}, case["operating_point"]


def solve(arguments):
    """Operating point by ngspice, without what lies along wires and what is given."""
    found = simulate(netlist(**arguments))
    given = r"_[wb]$|^x|^v0$|_bias|\(vx|\(vv0"
    return {name: value for name, value in found.items() if not re.search(given, name)}


def write():
    """Make every circuit of the grid anew."""
    FOLDER.mkdir(exist_ok=True)
    version = subprocess.run(
        ["ngspice", "--version"], capture_output=True, encoding="utf-8", check=True
    ).stdout
    for name, voltage, network, v0 in _grid():
        arguments = {"voltage": voltage.tolist(), "layers": network, "v0": v0}
        point = solve(arguments)
        late = {"shift": None, "tile": None}  # fields that older circuits do not have
        plain = [{k: v for k, v in asdict(one).items() if v is not None or k not in late} for one in network]
        case = {"made_by": re.search(r"ngspice-\d+", version)[0], **arguments, "layers": plain}
        case["operating_point"] = point
        text = json.dumps(case, default=np.ndarray.tolist)
        text = re.sub(r'(, )("(?:voltage|layers|v0|operating_point)":|\[)', r",\n \2", text)
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(write())
