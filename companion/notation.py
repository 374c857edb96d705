"""Symbols and units of the book, and terms of the field: the source of the notation page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Symbol:
    """A symbol in TeX, what it means, its unit (``"1"`` if it has none), its name in the code."""

    tex: str
    meaning: str
    unit: str
    code: str = ""


SYMBOLS: tuple[Symbol, ...] = (
    Symbol("x", r"input of a layer: read voltage above $V_0$ in units of the span, in [0, 1]", "1", "x"),
    Symbol(r"\bar x_i", r"input voltage of row $i$ above the virtual ground", "V"),
    Symbol("y", "output of a layer; label of a sample; accuracy of a chip", "1", "y"),
    Symbol("V", "voltage", "V"),
    Symbol("V_0", "voltage of the virtual ground, the zero of the inputs", "V"),
    Symbol("I", "current", "µA"),
    Symbol("u", "output voltage of a neuron circuit", "V"),
    Symbol(
        "b",
        "output voltage of an IV converter; badness of a cell; vector (out,) of VeRA",
        "V; 1; 1",
        "VeRA.b",
    ),
    Symbol("v", "voltage of an amplifier above $V_0$; of its inputs with index + or −", "V"),
    Symbol(r"v_{id}", "what the output would be with a perfect amplifier", "V"),
    Symbol("v_0", "output of an amplifier at zero differential input", "V", "OpAmp.at_zero"),
    Symbol("e", "error of an amplifier referred to its input: offset and output at zero", "V"),
    Symbol("W", "weight matrix (out, in); on a chip, what its array amounts to", "1", "weight"),
    Symbol("W_0", "weights that an array was asked to hold", "1", "Crossbar.weight"),
    Symbol("X", "inputs of a layer, a column a sample", "1"),
    Symbol("Y", r"outputs of a layer, a column a sample; $Y'$ behind its digital stage", "1"),
    Symbol("t", "time since programming", "s", "Drift.t"),
    Symbol("t_0", "time of the first reading", "s"),
    Symbol(r"\nu", "exponent of the drift of a cell", "1", "PCM.exponent"),
    Symbol("d", "vector (r,) of VeRA; rise of a sampled voltage", "1; V", "VeRA.d, AutoZero.plate"),
    Symbol(r"\Lambda_b,\,\Lambda_d", "diagonal matrices of $b$ and $d$", "1"),
    Symbol(r"\tau", "share of the drift-free accuracy that a set has to keep", "1", "greedy(threshold=...)"),
    Symbol(r"\rho", "standard deviation of a drifted conductance, of its target", "1", "RelativeDrift.rho"),
    Symbol(r"\Sigma", r"second moments of the inputs of a layer, $\overline{x x^\top}$", "1"),
    Symbol("w", "one weight", "1"),
    Symbol("w_{max}", "weight held by the full range of the cells", "1", "Array.w_max"),
    Symbol("g", "conductance of one cell", "µS"),
    Symbol("G", "conductance obtained from the device", "µS", "Conductances.cells"),
    Symbol("T", "conductance asked for; temperature of a softmax", "µS; 1", "Array.target, Temperature"),
    Symbol(r"g_{min},\,g_{max}", "range of a cell", "µS", "Array.g_min, Array.g_max"),
    Symbol(r"\Delta G", r"width of the range, $g_{max} - g_{min}$", "µS"),
    Symbol(r"\bar g", "middle of the range", "µS", "Array.g_mid"),
    Symbol("g_L", "feedback (load) conductance of an IV converter", "µS"),
    Symbol("g_c", "conductance that feeds the constant term into a column", "µS"),
    Symbol("g_f", "feedback conductance of the summing amplifier", "µS"),
    Symbol(
        "k",
        r"conductance per unit of weight; the feedback conductance $g_L$ in a circuit",
        "µS",
        "Conductances.scale",
    ),
    Symbol("s", "sum of the conductances of a column; factor of a column", "µS; 1", "Scale.factor"),
    Symbol("o", "input offset voltage of an operational amplifier", "V", "OpAmp.offset"),
    Symbol(
        "n", r"pulses of one write; number of chips or seeds; noise gain $1 + s/g_L$; norm of a column", "1"
    ),
    Symbol("z", "standard draw of a cell: belongs to the chip", "1"),
    Symbol(
        r"\sigma", "spread; the convention stands beside each; with an index: singular value", "1", "sigma"
    ),
    Symbol("N", "inputs (rows) of a layer; number of feedbacks", "1", "feedbacks"),
    Symbol("M", "outputs (columns) of a layer; bits of a weight", "1", "weight_bits"),
    Symbol("K", "bits of a cell", "1", "cell_bits"),
    Symbol("m", "level of a cell; magnitude of a column", "1", "DoRA.magnitude"),
    Symbol("p", "fraction of cells stuck; index of a row of weights", "1", "StuckAt.on, StuckAt.off"),
    Symbol(
        "q", "index of a physical row; charge left on a capacitor", "1; C", "Placement.rows, AutoZero.charge"
    ),
    Symbol(r"\hat w", "weight that a chip makes of $w$", "1"),
    Symbol(r"\theta", r"logarithm of the factor by which a cell is off, $\sigma z$", "1"),
    Symbol("C", "cost of a placement; capacitance", "1; F", "row_costs, AutoZero.capacitor"),
    Symbol(
        r"\alpha",
        "importance of a weight in the cost of a placement; factor of drift compensation",
        "1",
        "mapped(weighting=...), compensate",
    ),
    Symbol(
        "r",
        "power of an error in the cost of a placement; rank of a digital stage",
        "1",
        "mapped(power=...), rank",
    ),
    Symbol(r"\lambda", "strength of a penalty", "1", "Retraining.penalty; Penalised.l1"),
    Symbol("P", "pulses from the lower end of the range; pulses a cell has received; power", "1; 1; µW"),
    Symbol("Q", "endurance of a cell", "pulses", "Pulses.endurance"),
    Symbol("U", "updates of one training", "1"),
    Symbol("f", "share of the cells that one update writes", "1"),
    Symbol("P_{max}", "pulses that span the range", "1", "Pulses.levels"),
    Symbol(
        "A",
        "curvature of the pulse response; open-loop gain of an amplifier; projection (r, in) of a stage",
        "pulses; 1; 1",
        "curvature, OpAmp.gain, LoRA.down",
    ),
    Symbol(
        "B", "amplitude of the pulse response; projection (out, r) of a digital stage", "µS; 1", "LoRA.up"
    ),
    Symbol(r"\mathrm{NL}", "nonlinearity label of a pulse response", "1", "Pulses.potentiation"),
    Symbol("E", "training error (loss); expectation", "1"),
    Symbol(r"\eta", "learning rate; of conductances in µS²", "1", "lr"),
    Symbol(r"\delta", "derivative of the error with respect to a neuron's output", "1"),
    Symbol("O", "output of a network, one logit a class; with an index: of a feedback", "1"),
    Symbol("J", "derivatives of a network's outputs with respect to its weights", "1"),
    Symbol("h", "activations that the last layer reads", "1"),
    Symbol(r"a_b,\,a_f", "factors of output and feedback in the loss", "1"),
    Symbol(r"\beta", "strength of the feedback", "1", "OVF.beta, IRS.beta"),
    Symbol(r"\gamma", "decay factor of a feedback", "1", "decay_factors"),
    Symbol("c", "index of a chip", "1", "chip"),
    Symbol("S", "number of replicas or seeds", "1"),
    Symbol("i", "index of an input (row)", "1"),
    Symbol("l", "index of a layer", "1"),
    Symbol("j", "index of an output (column) or of a slice", "1"),
)


#: Acronyms of the field, spelt out. A chapter that uses one spells it out once.
ACRONYMS: dict[str, str] = {
    "ADC": "analogue-to-digital converter",
    "CMO": "conductive metal oxide",
    "CNN": "convolutional neural network",
    "DAC": "digital-to-analogue converter",
    "DoRA": "weight-decomposed low-rank adaptation",
    "IRS": "intermediate representation snapshot",
    "LoRA": "low-rank adaptation",
    "MLP": "multi-layer perceptron",
    "NFT": "negative feedback training",
    "NL": "nonlinearity label",
    "OVF": "oriented variational forward",
    "PCM": "phase-change memory",
    "ReRAM": "resistive random-access memory",
    "SRAM": "static random-access memory",
    "VeRA": "vector-based random matrix adaptation",
}


TERMS: dict[str, str] = {
    "adapter": "see digital stage",
    "calibration": "finding a few numbers beside a chip from samples, without writing a cell",
    "digital stage": "exact arithmetic behind an array: a few numbers that correct its output",
    "distillation": "training towards what another network, the teacher, gives",
    "drift": "change of a conductance with the time since it was written",
    "drift compensation": "multiplying an output by how much the array's outputs have faded",
    "just programmed": "with errors of programming and of the first reading, before drift",
    "chip": "one fabricated instance of a design: a seed from which every standard draw follows",
    "crossbar array (CBA)": "cells where rows cross columns; a column's current is a weighted sum",
    "differential pair": "two cells whose difference is one signed weight",
    "desk scale": "seconds to half an hour a point on one core; the scale of the evidence figures",
    "deployed": "trained offline, programmed into chips, read with their offsets",
    "EKL": "mean of −log p(label) over correct predictions, in nats",
    "emulator": "equations of one chip with its own measured amplifiers, in software",
    "endurance": "pulses that a cell survives",
    "hardware-conscious training": "training in the emulator of the chip that the weights are for",
    "headroom": "how far an output can move before it meets a rail",
    "IV converter": "amplifier that holds a column at virtual ground and turns its current into a voltage",
    "level of drift": "one age of a chip, or a range of ages, that has numbers of its own",
    "LTP, LTD": "potentiation and depression: pulses that raise and lower a conductance",
    "Manhattan rule": "every cell gets one pulse in the direction of its gradient's sign",
    "noise-aware": "trained with errors of fresh chips, drawn anew in every batch",
    "noise gain": "1 + s/g_L for a converter: what its offset is multiplied by",
    "offline": "trained in software that does not know the chip",
    "one-sided, two-sided": "of a pair: one cell rests at $g_{min}$, or both move apart from the middle",
    "paired": "compared on the same chips and seeds, so that what they share cancels",
    "programming error": "difference between the conductance obtained and asked for, fixed once written",
    "joint order": "hidden units moved with the columns that make them and the rows they feed: no router",
    "mapping": "what code calls placement: rows (or columns) of weights laid where they suffer least",
    "posterior": "what is known of a quantity after a reading, given its spread and the reading's error",
    "rail": "lowest or highest voltage that an amplifier can put out",
    "record": "the committed result of one run, with its parameters, versions and code digest",
    "retraining": "training a network off the device through what one chip's known cells make of its weights",
    "router": "what brings inputs to word lines in another order",
    "set": "numbers of all digital stages of a network for one level of drift, the same for all chips",
    "spare rows": "word lines more than the weights need",
    "stuck on, stuck off": "a cell that stays at $g_{max}$ or at $g_{min}$ whatever is written",
    "trim": "a neuron's bias written anew, so that at rest the neuron shows what it was designed to show",
    "updated": "trained on in the emulator of the chip, then programmed",
    "virtual ground": "a node held at $V_0$ by an amplifier's feedback",
    "write-and-verify": "pulses and readings in turn, until a cell is close enough to its target",
}


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def symbols_table() -> str:
    """The symbols as a Markdown table with maths."""
    rows = [(f"${s.tex}$", s.meaning, s.unit, f"`{s.code}`" if s.code else "") for s in SYMBOLS]
    return _table(("Symbol", "Meaning", "Unit", "In the code"), rows)


def glossary() -> str:
    """Terms and acronyms in the order of the alphabet, as a glossary to which ``{term}`` leads."""
    spelt = {short: long for short, long in ACRONYMS.items() if short not in TERMS}
    entries = sorted((TERMS | spelt).items(), key=lambda entry: entry[0].casefold())
    return "\n".join([":::{glossary}", *(f"{name}\n  {meaning}\n" for name, meaning in entries), ":::"])
