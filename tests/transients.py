"""The switched reference circuits: what they are, and what ngspice says of them.

`python tests/transients.py` makes those of the grid anew, in tests/oracle_circuits/auto-zero-*.json, beside
the circuits of `oracle.py`: arguments of `two_phases`, and voltages at the end of the first phase and at the
reading.
"""

import json
import re
import subprocess
import sys
from dataclasses import asdict

import numpy as np
from oracle import FOLDER, _cells

from cimlib.bench import Amplifier, Clocks, Layer, two_phases, values_at, waveforms

V0 = 0.5
SIGMA = 15.9e-3  # V
FARAD = 17e-15
NOTHING = {"gain": 1369.0, "zero": V0, "rails": None, "charge": 0.0, "spread": 0.0, "leakage": 0.0}
EFFECTS = {  # what differs from a circuit with offsets alone, gain 1369, and nothing that moves the plates
    "offset": {},
    "gain": {"gain": 163.0, "zero": 0.4616},
    "charge": {"charge": 10e-18},
    "mismatch": {"charge": 10e-18, "spread": 10e-18},
    "leak": {"leakage": 1e-12},
    "droop": {"leakage": 100e-12},
    "all": {"zero": 0.4859, "charge": 10e-18, "spread": 5e-18, "leakage": 5e-12},
    "rails": {"zero": 0.4859, "rails": (0.47, 0.55), "charge": 10e-18, "spread": 5e-18, "leakage": 5e-12},
    "headroom": {"rails": (0.49, 0.95)},  # the first phase itself is at a rail
}
STRUCTURES = ("pair", "column", "constant-term")
CASES = {  # structure, rows and columns, where, effect, capacitor
    **{
        f"auto-zero-{where}-{structure}-{effect}": (structure, (8, 2), where, effect, FARAD)
        for where in ("input", "output")
        for structure, effects in {
            "pair": list(EFFECTS),
            "column": ["all", "rails"],
            "constant-term": ["all", "rails"],
        }.items()
        for effect in effects
    },
    **{
        f"auto-zero-{where}-pair-{farad * 1e15:g}fF": ("pair", (8, 2), where, "all", farad)
        for where in ("input", "output")
        for farad in (1e-15, 100e-15)
    },
    "auto-zero-input-follower-all": ("pair", (4, 3), "input", "all", FARAD),
}
STAGES = {"pair": ("bp", "bn", "u"), "column": ("b", "u"), "constant-term": ("u",)}
SHARED = {"pair": [], "column": ["bref"], "constant-term": ["br"]}
PARTS = {"voltage", "layer", "where", "v0", "farad", "charge", "leakage", "clocks"}


def _case(structure, sizes, where, effect, farad, follower):
    """Arguments of `two_phases`, rounded so that a file holds them exactly."""
    rng = np.random.default_rng([2, *sizes, int(where == "input")])
    (m, n), knobs = sizes, NOTHING | EFFECTS[effect]
    names = [f"{stage}{j}" for stage in STAGES[structure] + ("y",) * follower for j in range(n)]
    names += SHARED[structure]
    offsets = np.round(rng.normal(0, SIGMA, len(names)), 5).tolist()
    gains = np.round(knobs["gain"] * np.exp(0.1 * rng.normal(size=len(names))), 1).tolist()
    amplifiers = {
        name: Amplifier(gain, o, knobs["zero"], knobs["rails"])
        for name, gain, o in zip(names, gains, offsets, strict=True)
    }
    reference = _cells(rng, m, n) if structure == "pair" else np.full((m, 1), 5.5e-5)
    cells, relu = _cells(rng, m, n), [0.0] * n if follower else None
    layer = Layer(structure, cells, reference, amplifiers, g_load=2.5e-4, relu=relu)
    voltage = np.round(V0 + rng.uniform(-0.1, 0.2, m), 4).tolist()
    sampled = names if where == "input" else [f"u{j}" for j in range(n)]
    charges = np.round(knobs["charge"] * 1e18 + knobs["spread"] * 1e18 * rng.normal(size=len(sampled)), 2)
    charge = {name: float(f"{q}e-18") for name, q in zip(sampled, charges.tolist(), strict=True)}
    return {
        "voltage": voltage,
        "layer": layer,
        "where": where,
        "v0": V0,
        "farad": farad,
        "charge": charge,
        "leakage": knobs["leakage"],
        "clocks": Clocks(),
    }


def cases():
    """Every circuit of the grid by name."""
    for name, case in CASES.items():
        yield name, _case(*case, follower="follower" in name)


def read(name):
    """Arguments of `two_phases`, and what is committed: voltages at the end of the first phase, and at the
    reading."""
    case = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    for own, one in case["layer"]["amplifiers"].items():
        rails = None if one["rails"] is None else tuple(one["rails"])
        case["layer"]["amplifiers"][own] = Amplifier(**one | {"rails": rails})
    case["layer"], case["clocks"] = Layer(**case["layer"]), Clocks(**case["clocks"])
    return {key: case[key] for key in PARTS}, case["sampled"], case["read"]


def solve(arguments):
    """Voltages of amplifiers, capacitors and what they show, by ngspice: sampled, and read."""
    course = waveforms(two_phases(**arguments))
    clocks = arguments["clocks"]
    shown = r"l0_(b[pn]|b|bref|br|u|y|s)\d*(_g|_o)?"
    return tuple(
        {name: volt for name, volt in values_at(course, time).items() if re.fullmatch(shown, name)}
        for time in (clocks.sample - clocks.gap, clocks.stop)
    )


def write():
    """Make every circuit of the grid anew."""
    command = ["ngspice", "--version"]
    version = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    for name, arguments in cases():
        sampled, found = solve(arguments)
        layer = {key: value for key, value in asdict(arguments["layer"]).items() if value is not None}
        case = {"made_by": re.search(r"ngspice-\d+", version)[0], **arguments, "layer": layer}
        case |= {"clocks": asdict(arguments["clocks"]), "sampled": sampled, "read": found}
        text = json.dumps(case, default=np.ndarray.tolist)
        text = re.sub(r'(, )("(?:voltage|layer|where|charge|clocks|sampled|read)":|\[)', r",\n \2", text)
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(write())
