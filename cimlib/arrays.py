r"""Weights ↔ conductances: how signed weights sit in arrays of positive conductances.

For a weight matrix :math:`W` (out, in) the inputs drive the rows (word lines) and each output is a
column (bit line). Taught in *One array instead of two*, where the equations are derived; the tests
check them by nodal analysis. Everything is in µS.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from cimlib.devices import require, straight_through

Structure = Literal["pair", "column", "constant-term"]


@dataclass(frozen=True)
class Conductances:
    """What one layer's array holds.

    Args:
        cells: ``(slices, sides, *W.shape)``, µS.
        reference: ``(*W.shape[1:])``, µS: one conductance per row, or ``None``.
        scale: (slices,), µS per unit of weight.
        connected: bool, like ``cells``: cells whose access transistor is on, or ``None`` for all. The
            others conduct nothing and hold 0.
    """

    cells: Tensor
    reference: Tensor | None
    scale: Tensor
    connected: Tensor | None = None

    def __sub__(self, other: Conductances) -> Conductances:
        """Cell-wise difference; scale and connections are those of ``self``."""
        reference = None
        if self.reference is not None and other.reference is not None:
            reference = self.reference - other.reference
        return replace(self, cells=self.cells - other.cells, reference=reference)


@dataclass(frozen=True)
class Inventory:
    """Parts of one array of a layer: memory cells, fixed resistors, operational amplifiers."""

    cells: int
    resistors: int
    amplifiers: int


@dataclass(frozen=True)
class Array:
    """Common part of the arrays: range and scale.

    Args:
        g_min, g_max: range of one cell, µS, 0 ≤ g_min < g_max < ∞.
        w_max: weight held by the full range. ``None``: the largest magnitude of each weight tensor,
            found anew whenever the weights change; a number: fixed, and larger weights saturate.

    Raises ``ValueError`` for a range or a ``w_max`` that is not allowed.
    """

    g_min: float = 10.0
    g_max: float = 100.0
    w_max: float | None = None

    def __post_init__(self) -> None:
        ordered = 0 <= self.g_min < self.g_max < float("inf")
        require(ordered, "(g_min, g_max)", (self.g_min, self.g_max), "0 ≤ g_min < g_max < ∞ (µS)")
        positive = self.w_max is None or 0 < self.w_max < float("inf")
        require(positive, "w_max", self.w_max, "None or 0 < w_max < ∞")

    @property
    def g_mid(self) -> float:
        """Middle of the range, µS."""
        return (self.g_min + self.g_max) / 2

    def represent(self, weight: Tensor) -> Tensor:
        """The weights the array can hold, (out, in, ...): saturated at ``w_max`` if that is fixed."""
        return weight if self.w_max is None else weight.clamp(-self.w_max, self.w_max)

    def full_scale(self, weight: Tensor) -> Tensor:
        """Weight held by the full range, a scalar > 0 without gradient."""
        if self.w_max is not None:
            return torch.as_tensor(self.w_max, dtype=weight.dtype, device=weight.device)
        peak = weight.detach().abs().amax()
        return torch.where(peak > 0, peak, torch.ones_like(peak))

    @property
    def structure(self) -> Structure:
        """How signs come about: ``"pair"`` of arrays, reference ``"column"``, ``"constant-term"``."""
        raise NotImplementedError

    @property
    def slices(self) -> int:
        """Cells in which the bits of one weight lie, per side."""
        return 1

    @property
    def sides(self) -> int:
        """Arrays whose difference makes the sign (2 for a pair, 1 for a single array)."""
        return 1

    def cell_shape(self, weight: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the cells (slices, sides, out, in, ...) of weights (out, in, ...)."""
        return (self.slices, self.sides, *weight)

    def draw_shape(self, weight: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the standard draws, broadcastable to the cells: by default one per cell."""
        return self.cell_shape(weight)

    @property
    def reference_is_cells(self) -> bool:
        """Whether the reference is made of memory cells and so shares the device's errors."""
        return False

    def target(self, weight: Tensor) -> Conductances:
        """Conductances to ask for, given weights (out, in, ...)."""
        raise NotImplementedError

    def decode(self, g: Conductances) -> Tensor:
        """Weights (out, in, ...) that conductances amount to; linear in ``g``."""
        raise NotImplementedError

    def inventory(self, inputs: int, outputs: int) -> Inventory:
        """Parts needed for a layer of ``inputs`` rows and ``outputs`` neurons."""
        raise NotImplementedError

    def within(self, cells: Tensor) -> Tensor:
        """``cells`` without the last digit by which rounding may have left the range."""
        return straight_through(cells.clamp(self.g_min, self.g_max), cells)


def pair(array: Array, weight: Tensor, mapping: str) -> tuple[Tensor, Tensor]:
    """Both cells' targets in units of the range above ``g_min``, each like ``weight``."""
    w = array.represent(weight) / array.full_scale(weight)
    if mapping == "one-sided":  # |w| ± w has a gradient at w = 0; a clamp has none
        return (w.abs() + w) / 2, (w.abs() - w) / 2
    return (1 + w) / 2, (1 - w) / 2


@dataclass(frozen=True)
class DoubleArray(Array):
    r"""Two arrays, one subtracted from the other: :math:`w = (g^+ - g^-)/k`, :math:`k=\Delta G/w_{max}`.

    Args:
        mapping: ``"one-sided"``: :math:`g^\pm = g_{min} + k\,(|w| \pm w)/2`, one cell of the pair
            stays at ``g_min``; ``"two-sided"``: :math:`g^\pm = \bar g \pm k\,w/2`.
        inactive: what the cell that stays at ``g_min`` does in the one-sided mapping:
            ``"programmed"``: it is written like the others and has their errors;
            ``"disconnected"``: its access transistor is off, so that a weight has one draw, not two;
            this needs ``g_min = 0``, or the other cell's ``g_min`` would be left over.
        zero_state: cells can also be opened, to 0 µS (JJAP 2024: g ∈ {0} ∪ [g_min, g_max]). Then
            :math:`g^\pm = k\,(|w| \pm w)/2` with :math:`k = g_{max}/w_{max}`, and a cell asked for less
            than ``g_min`` is open, without error; its weight still passes gradients. One-sided only.

    Source: double crossbar array of IEICE 2019 / JJAP 2024; mappings as named in CrossSim (balanced
    one-sided and two-sided). Raises ``ValueError`` for unknown names.
    """

    mapping: Literal["one-sided", "two-sided"] = "one-sided"
    inactive: Literal["programmed", "disconnected"] = "programmed"
    zero_state: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.mapping in ("one-sided", "two-sided"),
            "mapping",
            self.mapping,
            "'one-sided', 'two-sided'",
        )
        known = self.inactive in ("programmed", "disconnected")
        require(known, "inactive", self.inactive, "'programmed', 'disconnected'")
        if self.inactive == "disconnected":
            require(self.mapping == "one-sided", "mapping", self.mapping, "'one-sided' if disconnected")
            require(self.g_min == 0, "g_min", self.g_min, "0 µS if inactive='disconnected'")
        if self.zero_state:
            require(self.mapping == "one-sided", "mapping", self.mapping, "'one-sided' with a zero state")
            apart = self.inactive == "programmed" and self.g_min > 0
            found = (self.g_min, self.inactive)
            require(apart, "(g_min, inactive)", found, "g_min > 0 and 'programmed' with a zero state")

    @property
    def structure(self) -> Structure:
        return "pair"

    @property
    def sides(self) -> int:
        return 2

    def represent(self, weight: Tensor) -> Tensor:
        kept = super().represent(weight)
        if not self.zero_state:
            return kept
        wanted = kept.abs() * (self.g_max / self.full_scale(weight))
        return straight_through(torch.where(self._connected(wanted), kept, 0.0), kept)

    def _connected(self, wanted: Tensor) -> Tensor:
        """Cells that are not opened; the last digit of a rounded ``g_min`` does not open one."""
        return wanted >= self.g_min * (1 - 1e-6)

    def draw_shape(self, weight: tuple[int, ...]) -> tuple[int, ...]:
        """One draw per cell, or one per pair if the other cell of the pair is disconnected."""
        return (self.slices, 2 if self.inactive == "programmed" else 1, *weight)

    def target(self, weight: Tensor) -> Conductances:
        if self.zero_state:
            return self._target_with_zero_state(weight)
        span = self.g_max - self.g_min
        sides = torch.stack(pair(self, weight, self.mapping))
        connected = None
        if self.inactive == "disconnected":
            connected = torch.stack((weight >= 0, weight < 0)).unsqueeze(0)
        scale = (span / self.full_scale(weight)).reshape(1)
        cells = self.within(self.g_min + span * sides).unsqueeze(0)
        return Conductances(cells, None, scale, connected)

    def _target_with_zero_state(self, weight: Tensor) -> Conductances:
        full = self.full_scale(weight)
        w = Array.represent(self, weight)
        wanted = torch.stack(((w.abs() + w) / 2, (w.abs() - w) / 2)) * (self.g_max / full)
        connected = self._connected(wanted)
        cells = torch.where(connected, wanted.clamp(self.g_min, self.g_max), 0.0)
        cells = straight_through(cells, wanted)
        return Conductances(cells[None], None, (self.g_max / full).reshape(1), connected[None])

    def decode(self, g: Conductances) -> Tensor:
        cells = g.cells if g.connected is None else torch.where(g.connected, g.cells, 0.0)
        difference = cells[:, 0] - cells[:, 1]
        return (difference / g.scale.reshape(-1, *[1] * (difference.dim() - 1))).sum(0)

    def inventory(self, inputs: int, outputs: int) -> Inventory:
        """2·N·M cells; two IV converters and a subtractor (four resistors) a neuron [derived]."""
        return Inventory(2 * inputs * outputs, 2 * outputs + 4 * outputs, 3 * outputs)


@dataclass(frozen=True)
class SingleArray(Array):
    r"""One array and a fixed reference: :math:`w = (g - \bar g)/k`, :math:`k=\Delta G/(2 w_{max})`.

    Args:
        reference: where :math:`\bar g\sum x` is subtracted. ``"column"``: a reference column with
            its own IV converter and one subtractor a neuron; ``"constant-term"``: one summing
            amplifier that feeds every column's virtual ground, no subtractors.
        reference_device: ``"resistor"``: exact resistors; ``"cell"``: memory cells with the errors
            of the others (only a column can be made of cells).

    Without errors of the cells and with ideal amplifiers both references give the same output. The
    constant term inverts it, so there the cells hold −W and the same cell error has the other sign;
    they differ in parts, and with real amplifiers in headroom and offset.

    Source: both derived here; the constant-term amplifier is the
    idea of Truong & Min (2014); ISIPS 2019 compares three structures, its third is not found.
    Raises ``ValueError`` for unknown names.
    """

    reference: Literal["column", "constant-term"] = "column"
    reference_device: Literal["resistor", "cell"] = "resistor"

    def __post_init__(self) -> None:
        super().__post_init__()
        known = self.reference in ("column", "constant-term")
        require(known, "reference", self.reference, "'column', 'constant-term'")
        allowed = ("resistor", "cell") if self.reference == "column" else ("resistor",)
        fits = self.reference_device in allowed
        require(
            fits,
            "reference_device",
            self.reference_device,
            f"{allowed} for reference={self.reference!r}",
        )

    @property
    def structure(self) -> Structure:
        return self.reference

    @property
    def reference_is_cells(self) -> bool:
        return self.reference_device == "cell"

    @property
    def sign(self) -> int:
        """−1 if the output is inverted, so that the cells hold −W: the constant term has no subtractor."""
        return -1 if self.reference == "constant-term" else 1

    def target(self, weight: Tensor) -> Conductances:
        full = self.full_scale(weight)
        scale = ((self.g_max - self.g_min) / (2 * full)).reshape(1)
        cells = self.within(self.g_mid + self.sign * scale * self.represent(weight))
        reference = torch.full_like(weight[0].detach(), self.g_mid)
        return Conductances(cells[None, None], reference, scale)

    def decode(self, g: Conductances) -> Tensor:
        assert g.reference is not None
        return self.sign * (g.cells[0, 0] - g.reference) / g.scale

    def inventory(self, inputs: int, outputs: int) -> Inventory:
        """Column: N·(M+1) elements, M+1 IV converters, M subtractors (four resistors each).
        Constant term: N·M cells, N+M resistors, M+1 amplifiers and no subtractor. Each IV converter
        and the summing amplifier has one feedback resistor more [derived]."""
        cells, feedback = inputs * outputs, outputs + 1
        if self.reference == "constant-term":
            return Inventory(cells, inputs + outputs + feedback, outputs + 1)
        column = inputs if self.reference_device == "cell" else 0
        return Inventory(cells + column, inputs - column + feedback + 4 * outputs, 2 * outputs + 1)


@dataclass(frozen=True)
class BitSliced(DoubleArray):
    r"""A weight of ``weight_bits`` in several cells of ``cell_bits``, sign in a second array.

    :math:`|w| = \frac{w_{max}}{2^M-1}\sum_j 2^{jK} m_j`, digit :math:`m_j` in one cell as
    :math:`g_{min} + \Delta G\,m_j/(2^K-1)`. A spread σ per cell (fraction of ΔG) then gives a weight
    the spread :math:`\sigma\,w_{max}\sqrt{\sum_j 4^{jK}}/\sum_j 2^{jK}`, see :attr:`noise_factor`.

    Args:
        weight_bits, cell_bits: M and K; K must divide M, 1 ≤ K ≤ M ≤ 16.
        quantise: ``False`` keeps the weights real and slices only their errors, as the released code
            of NFT does.

    Default ``g_min = 0`` and ``inactive="disconnected"``: one draw per digit, as in NFT. Source: NFT
    Eq. 4–5 (standard form; the printed equations are not available). Raises ``ValueError``.
    """

    g_min: float = 0.0
    inactive: Literal["programmed", "disconnected"] = "disconnected"
    weight_bits: int = 8
    cell_bits: int = 2
    quantise: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        bits = (self.weight_bits, self.cell_bits)
        fits = 1 <= self.cell_bits <= self.weight_bits <= 16 and self.weight_bits % self.cell_bits == 0
        require(
            fits,
            "(weight_bits, cell_bits)",
            bits,
            "1 ≤ cell_bits ≤ weight_bits ≤ 16, cell_bits divides weight_bits",
        )
        require(self.mapping == "one-sided", "mapping", self.mapping, "'one-sided'")
        require(not self.zero_state, "zero_state", self.zero_state, "False for bit slices")

    @property
    def slices(self) -> int:
        return self.weight_bits // self.cell_bits

    @property
    def noise_factor(self) -> float:
        """Spread of a weight in units of σ·w_max with one draw per digit (0.77763 for 8 bits in 2)."""
        powers = [2 ** (j * self.cell_bits) for j in range(self.slices)]
        return float(sum(p * p for p in powers) ** 0.5 / sum(powers))

    def levels(self, weight: Tensor) -> Tensor:
        """Integer magnitude of every weight, 0 … 2^M − 1, without gradient."""
        w = super().represent(weight).detach().abs() / self.full_scale(weight)
        level: Tensor = (w * (2**self.weight_bits - 1)).round()
        return level

    def represent(self, weight: Tensor) -> Tensor:
        kept = super().represent(weight)
        if not self.quantise:
            return kept
        step = self.full_scale(weight) / (2**self.weight_bits - 1)
        return straight_through(self.levels(weight) * step * weight.detach().sign(), kept)

    def target(self, weight: Tensor) -> Conductances:
        base, span = 2**self.cell_bits, self.g_max - self.g_min
        power = base ** torch.arange(self.slices, device=weight.device)
        column = power.reshape(-1, *[1] * weight.dim())
        digits = (self.levels(weight) / column).floor() % base
        positive = weight >= 0
        sides = torch.stack((torch.where(positive, digits, 0.0), torch.where(positive, 0.0, digits)), 1)
        connected = None
        if self.inactive == "disconnected":
            connected = torch.stack((positive, ~positive)).unsqueeze(0)
        unit = self.full_scale(weight) / (2**self.weight_bits - 1)
        scale = span / ((base - 1) * power * unit)
        cells = self.within(self.g_min + span * sides / (base - 1))
        return Conductances(cells, None, scale, connected)

    def inventory(self, inputs: int, outputs: int) -> Inventory:
        """Each slice is a double array of its own."""
        one = super().inventory(inputs, outputs)
        return Inventory(*(self.slices * count for count in (one.cells, one.resistors, one.amplifiers)))


def power(g: Conductances, voltage: Tensor) -> Tensor:
    r"""Power dissipated in the array and its reference, µW: :math:`\sum_{ij} g_{ij} (V_i-V_0)^2`.

    Args:
        g: conductances of a linear layer, cells (slices, sides, out, in) in µS.
        voltage: (batch, in), V, relative to the virtual ground.

    Returns (batch,). Amplifiers are not included. Source: Joule's law with every column held at
    virtual ground [derived]. Raises ``ValueError`` unless the layer is linear.
    """
    require(g.cells.dim() == 4, "g.cells.shape", tuple(g.cells.shape), "(slices, sides, out, in)")
    cells = g.cells if g.connected is None else torch.where(g.connected, g.cells, 0.0)
    per_row = cells.sum((0, 1, 2)) + (0.0 if g.reference is None else g.reference)
    dissipated: Tensor = voltage.square() @ per_row
    return dissipated
