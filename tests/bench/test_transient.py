"""Circuits that switch as ngspice integrates them, against the equations of auto-zero.

Every committed circuit is read into :class:`cimlib.circuits.auto_zero.AutoZero`: offset, gain and charge of
each amplifier are its own draws. What comes out is compared with the committed voltages always, and with
ngspice itself where it is installed; which of the two it was is printed.
"""

import shutil
from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch
from oracle import FOLDER
from simulated import ARRAYS, STAGES, Rows, named, tensor
from transients import CASES, cases, read, solve

from cimlib.arrays import Conductances
from cimlib.bench import Amplifier, Clocks, Layer, Transient, two_phases, values_at, waveforms
from cimlib.circuits import AutoZero, OpAmp

TOLERANCE = 2e-5  # V, of which half is what leaks while both plates float; asked for are 1e-4
SPAN = 0.35


def auto_zero(layer, where, v0, farad, charge, leakage, clocks, **_):
    """The circuit as one of the library, and its draws."""
    one = next(iter(layer.amplifiers.values()))
    assert {(a.zero, a.rails) for a in layer.amplifiers.values()} == {(one.zero, one.rails)}
    inner = OpAmp(
        gain=one.gain,
        gain_spread=1.0,
        offset=1.0,
        at_zero=one.zero,
        rails=one.rails,
        v_0=v0,
        span=SPAN,
        g_load=1e6 * layer.g_load,
    )
    circuit = AutoZero(inner, where, farad, charge_spread=1e-18, leakage=leakage, hold=clocks.hold)
    z = {}
    stages = [(stage, slot) for stage, (slot, _) in STAGES[layer.structure].items()]
    for stage, slot in stages + [("y", "follower")] * (layer.relu is not None):
        names = named(layer, stage)
        amplifiers = [layer.amplifiers[name] for name in names]
        z.setdefault(slot, []).append([a.offset for a in amplifiers])
        z.setdefault(f"{slot}_gain", []).append([log(a.gain / one.gain) for a in amplifiers])
        z.setdefault(f"{slot}_charge", []).append([1e18 * charge.get(name, 0.0) for name in names])
    z = {slot: tensor(rows if len(rows) > 1 else rows[0]) for slot, rows in z.items()}
    if where == "output":
        z = {slot: values for slot, values in z.items() if not slot.endswith("_charge")}
        z["sampled_charge"] = tensor([1e18 * charge.get(name, 0.0) for name in named(layer, "u")])
    noiseless = {
        slot.replace("_charge", "_noise"): torch.zeros_like(values)
        for slot, values in z.items()
        if slot.endswith("_charge")
    }
    return circuit, z | noiseless


def equations(voltage, layer, where, v0, **rest):
    """Voltages of the amplifiers, and of what the layer shows, when they are read."""
    circuit, z = auto_zero(layer, where, v0, **rest)
    array = ARRAYS[layer.structure]
    cells, reference = 1e6 * tensor(layer.conductance).T, 1e6 * tensor(layer.reference).T
    scale = 1e6 * tensor([layer.g_load])
    if layer.structure == "pair":
        g = Conductances(torch.stack((cells, reference))[None], None, scale)
    else:
        g = Conductances(cells[None, None], reference[0], scale)
    op = Rows((tensor(voltage)[None] - v0) / SPAN)

    def volts(signal):
        return (v0 + SPAN * signal[0]).tolist()

    found = {}
    amplifiers, draws = circuit.equivalent(z)
    signals = amplifiers.stages(op, array, g, draws)
    for stage, (_, output) in STAGES[layer.structure].items():
        names = [f"l0_{name}" for name in named(layer, stage)]
        found |= zip(names, volts(signals[output].settle(op).value), strict=True)
    y = circuit(op, array, g, array.decode(g), None, z)
    shown = "s" if where == "output" else "u"
    found |= {f"l0_{shown}{j}": volt for j, volt in enumerate(volts(y))}
    if layer.relu is not None:
        relu = {"comparator": torch.zeros_like(y[0]), **{k: v for k, v in z.items() if "follower" in k}}
        a = replace(amplifiers, offset=1.0).activation(y, draws | relu | {"follower": draws["follower"]}, -1)
        found |= {f"l0_y{j}": volt for j, volt in enumerate(volts(a))}
    return found


def test_the_committed_circuits_are_those_of_the_grid():
    assert sorted(CASES) == sorted(path.stem for path in FOLDER.glob("auto-zero-*.json"))
    for name, arguments in cases():
        committed = read(name)[0]
        assert str(two_phases(**committed)) == str(two_phases(**arguments)), name


@pytest.mark.parametrize("name", CASES)
def test_the_equations_give_what_ngspice_gives(name, live):
    arguments, sampled, committed = read(name)
    found = equations(**arguments)
    assert found.keys() == {key for key in committed if not key.endswith(("_g", "_o"))}
    answers = [committed]
    if live:
        again = solve(arguments)
        answers.append(again[1])
        for old, new in zip((sampled, committed), again, strict=True):
            assert old.keys() == new.keys()
            np.testing.assert_allclose(list(new.values()), list(old.values()), rtol=0, atol=TOLERANCE)
    for answer in answers:
        differences = {key: abs(answer[key] - value) for key, value in found.items()}
        assert max(differences.values()) < TOLERANCE, differences


def test_amplifiers_of_the_grid_are_at_rails_in_the_first_phase_in_the_second_and_in_neither():
    counted = {"sampled": 0, "read": 0, "between": 0}
    for name in (one for one in CASES if "rails" in one or "headroom" in one):
        arguments, sampled, found = read(name)
        for key, amplifier in arguments["layer"].amplifiers.items():
            first, second = (
                bool(np.isclose(amplifier.rails, point[f"l0_{key}"], rtol=1e-9).any())
                for point in (sampled, found)
            )
            counted["sampled"] += first
            counted["read"] += second
            counted["between"] += not (first or second)
    assert min(counted.values()) >= 5, counted


def test_in_the_first_phase_an_amplifier_holds_its_error_and_a_column_its_output_at_rest():
    arguments, sampled, _ = read("auto-zero-input-pair-all")
    for key, one in arguments["layer"].amplifiers.items():
        error = one.offset + (one.zero - arguments["v0"]) / one.gain
        held = sampled[f"l0_{key}_g"] - sampled[f"l0_{key}_o"]
        assert held == pytest.approx(error * one.gain / (1 + one.gain), abs=1e-7), key
    arguments, sampled, _ = read("auto-zero-output-pair-all")
    assert sampled["l0_s0"] == pytest.approx(arguments["v0"], abs=1e-7)
    assert abs(sampled["l0_u0"] - arguments["v0"]) > 5e-3


CELLS = [[2e-5], [7e-5], [4e-5]]  # S
LAYER = Layer(
    "pair",
    CELLS,
    CELLS[::-1],
    {
        "bp0": Amplifier(1369, 9e-3, 0.5),
        "bn0": Amplifier(1369, -4e-3, 0.5),
        "u0": Amplifier(1369, 6e-3, 0.5),
    },
    1e-4 * 2,
)
BOUND = replace(LAYER, amplifiers={k: replace(a, rails=(0.05, 0.95)) for k, a in LAYER.amplifiers.items()})
NOISE_GAIN = 1 + 1.3e-4 / 2e-4


def shown(where="input", layer=BOUND, node="l0_bp0", **options):
    circuit = two_phases([0.6, 0.45, 0.7], layer, where, 0.5, farad=17e-15, **options)
    return values_at(waveforms(circuit), circuit.stop)[node]


needs_ngspice = pytest.mark.skipif(shutil.which("ngspice") is None, reason="ngspice is not installed")


@needs_ngspice
@pytest.mark.parametrize("gate", [1e-16, 1e-15])
@pytest.mark.parametrize("arrives", ["clamped", "floating", "active"])
def test_a_charge_counts_whenever_it_arrives_if_the_gate_can_keep_it(arrives, gate):
    """10 aC are 0.59 mV on 17 fF, whatever the gate, and the noise gain is 1.65."""
    clocks = Clocks(arrives=arrives)
    moved = shown(charge={"bp0": 10e-18}, clocks=clocks, gate=gate) - shown(clocks=clocks, gate=gate)
    expected = -NOISE_GAIN * 10e-18 / 17e-15 / (1 + NOISE_GAIN / 1369 * (1 + gate / 17e-15))
    assert moved == pytest.approx(expected, rel=1e-4)


@needs_ngspice
def test_what_is_seen_of_a_charge_that_nothing_can_keep_depends_on_what_it_should_not():
    """Without any capacitance at the gate, on how the amplifier drives its open switch."""
    seen = []
    for layer in (LAYER, BOUND):
        floating, clamped = (
            shown(layer=layer, charge={"bp0": 10e-18}, clocks=Clocks(arrives=arrives)) - shown(layer=layer)
            for arrives in ("floating", "clamped")
        )
        seen.append(floating / clamped)
    assert max(seen) < 0.9 and abs(seen[0] - seen[1]) > 0.1, seen


@needs_ngspice
def test_a_leak_is_not_seen_in_the_gap_in_which_both_plates_float():
    """100 pA for 1 ns are 5.9 µV of 3.5 mV on 17 fF; with a gate they are all there."""
    clocks, ideal = Clocks(), -(0.1 * 2e-5 - 0.05 * 7e-5 + 0.2 * 4e-5) / 2e-4
    for gate, least, most in ((0.0, 1e-6, 6e-6), (1e-16, 0, 5e-7)):
        found = shown(leakage=100e-12, gate=gate) - 0.5
        left = 9e-3 / 1370 + 100e-12 * clocks.hold / 17e-15
        expected = (ideal + NOISE_GAIN * left) / (1 + NOISE_GAIN / 1369 * (1 + gate / 17e-15))
        assert least <= abs(found - expected) / NOISE_GAIN <= most


@needs_ngspice
def test_the_gate_takes_part_of_the_gain():
    """With a gate of a tenth of the capacitor the layer is one of a gain of 1/1.1, and sees as much more."""
    gain = 40.0
    amplifiers = {key: replace(one, gain=gain) for key, one in LAYER.amplifiers.items()}
    found = shown(layer=replace(LAYER, amplifiers=amplifiers), gate=1.7e-15) - 0.5
    ideal = -(0.1 * 2e-5 - 0.05 * 7e-5 + 0.2 * 4e-5) / 2e-4
    left = 1.1 * 9e-3 / (1 + gain)
    assert found == pytest.approx((ideal + NOISE_GAIN * left) / (1 + 1.1 * NOISE_GAIN / gain), abs=1e-7)


@needs_ngspice
@pytest.mark.parametrize("arrives", ["clamped", "floating", "active"])
def test_behind_an_amplifier_nothing_floats_at_both_ends_so_each_charge_counts_once_and_alone(arrives):
    clocks = Clocks(arrives=arrives)
    none = shown("output", node="l0_s0", clocks=clocks)
    moved = shown("output", node="l0_s0", charge={"u0": 10e-18}, clocks=clocks) - none
    assert moved == pytest.approx(10e-18 / 17e-15, rel=1e-4)


@needs_ngspice
def test_a_capacitor_is_charged_through_a_closed_switch_with_its_own_time_constant():
    circuit = Transient(5e-9, step=1e-12, closed=1e3)
    circuit.course("clock", [(0.0, 0.0), (1e-9, 0.0), (1.0001e-9, 1.0)])
    circuit.source("x", 1.0)
    circuit.resistor("c", "0", 1e12)
    circuit.switch("x", "c", "clock")
    circuit.capacitor("c", "0", 1e-12)
    course = waveforms(circuit)
    for time in (1.5e-9, 2e-9, 4e-9):
        expected = 1 - 0.999 * np.exp(-(time - 1.00005e-9) / 1e-9)
        assert values_at(course, time)["c"] == pytest.approx(expected, abs=1e-4)
    assert abs(values_at(course, 0.9e-9)["c"]) < 2e-3, "it is open, and all but nothing comes through"


def test_a_circuit_over_time_is_plain_spice():
    circuit = Transient(1e-6, 1e-9)
    circuit.course("x", [(0.0, 0.5), (1e-7, 0.75)])
    circuit.capacitor("x", "c", 17e-15)
    circuit.switch("c", "0", "clock")
    circuit.drive("c", "0", [(0.0, 1e-12)])
    assert str(circuit).splitlines() == [
        "switched crossbar circuit",
        "Vx x 0 PWL(0.0 0.5 1e-07 0.75)",
        "C2 x c 1.7e-14",
        "S3 c 0 clock 0 switch",
        "I4 c 0 PWL(0.0 1e-12)",
        ".model switch sw(vt=0.5 vh=0 ron=1000.0 roff=1000000000000000.0)",
        ".options reltol=1e-9 abstol=1e-12 vntol=1e-12 chgtol=1e-20 method=gear",
        ".tran 1e-09 1e-06 0 1e-09",
        ".end",
    ]


def test_without_ngspice_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match="apt-get install ngspice"):
        waveforms(Transient(1e-6))


HEADER = r"Variables:\n\t0\ttime\ttime\n\t1\tv(a)\tvoltage\nBinary:\n"
POINT = r"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"  # 0 V at 0 s: the end was not reached


@pytest.mark.parametrize(
    "script",
    [
        "echo 'Warning: singular matrix'; touch $4",
        "echo 'doAnalyses: TRAN:  Timestep too small'; touch $4",
        "echo 'run simulation(s) aborted'; touch $4",
        "echo 'some words'; touch $4; exit 1",
        "echo 'no file'",
        f"echo 'no data'; printf '{HEADER}' > $4",
        f"echo 'not the end'; printf '{HEADER}{POINT}' > $4",
        f"echo 'half a point'; printf '{HEADER}{POINT[:16]}' > $4",
    ],
)
def test_a_failed_transient_is_an_error_in_ngspices_words(monkeypatch, tmp_path, script):
    """A stand-in for the program, so that this holds with and without ngspice."""
    program = tmp_path / "ngspice"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    words = script.split("'")[1].replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(RuntimeError, match=f"end of the transient:\n{words}"):
        waveforms(Transient(1e-6))


def test_a_transient_that_takes_too_long_is_given_up(monkeypatch, tmp_path):
    program = tmp_path / "ngspice"
    program.write_text("#!/bin/sh\nwhile :; do :; done\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(RuntimeError, match=r"the end of the transient in 0\.1 s"):
        waveforms(Transient(1e-6), limit=0.1)


def phases(layer=LAYER, where="output", **options):
    return two_phases([0.5] * 3, layer, where, 0.5, **{"farad": 17e-15} | options)


FOLLOWED = replace(LAYER, relu=[0.0], amplifiers={**LAYER.amplifiers, "y0": Amplifier(1369)})


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: Clocks(sample=0.0), "sample"),
        (lambda: Clocks(gap=0.0), "gap"),
        (lambda: Clocks(hold=4e-9), "hold"),
        (lambda: Clocks(arrives="late"), "arrives"),
        (lambda: Transient(0.0), "stop"),
        (lambda: Transient(1e-6, step=0.0), "step"),
        (lambda: Transient(1e-6, closed=1e3, opened=1e3), r"\(closed, opened\)"),
        (lambda: Transient(1e-6).capacitor("a", "b", 0.0), "farad"),
        (lambda: Transient(1e-6).capacitor("A", "b", 1e-15), "node"),
        (lambda: Transient(1e-6).source("time", 1.0), "node"),
        (lambda: Transient(1e-6).switch("a", "b", "a b"), "node"),
        (lambda: Transient(1e-6).course("a", []), "points"),
        (lambda: Transient(1e-6).course("a", [(1e-9, 0.0), (0.0, 1.0)]), "points"),
        (lambda: Transient(1e-6).drive("a", "0", [(0.0, float("nan"))]), "points"),
        (lambda: phases(where="middle"), "where"),
        (lambda: phases(replace(LAYER, amplifiers=None)), "amplifiers"),
        (lambda: phases(FOLLOWED), "relu"),
        (lambda: phases(replace(LAYER, bias=0.85)), "bias"),
        (lambda: phases(charge={"bp0": 1e-18}), "charge"),
        (lambda: phases(where="input", charge={"bp0": float("inf")}), "charge"),
        (lambda: phases(leakage=float("nan")), "leakage"),
        (lambda: phases(farad=0.0), "farad"),
        (lambda: phases(gate=-1e-18), "gate"),
        (lambda: values_at({"time": np.array([0.0, 1.0])}, 2.0), "time"),
    ],
)
def test_impossible_parts_are_refused_by_name(call, argument):
    with pytest.raises(ValueError, match=rf"^{argument} = .*; allowed: "):
        call()
