"""Two arrays, one subtracted from the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cimlib.arrays.base import Array, Conductances, Structure
from cimlib.arrays.inventory import Inventory
from cimlib.devices.effects import require, straight_through


def _parts(w: Tensor) -> Tensor:
    """Positive and negative part of ``w``, (2, *w.shape), with a gradient at 0, where a clamp has none."""
    return torch.stack((w.abs() + w, w.abs() - w)).div_(2)


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
        return straight_through(kept * self._connected(wanted).to(torch.uint8), kept)

    def _connected(self, wanted: Tensor) -> Tensor:
        """Cells that are not opened; the last digit of a rounded ``g_min`` does not open one."""
        return wanted >= self.g_min * (1 - 1e-6)

    def draw_shape(self, weight: tuple[int, ...]) -> tuple[int, ...]:
        """One draw per cell, or one per pair if the other cell of the pair is disconnected."""
        return (self.slices, 2 if self.inactive == "programmed" else 1, *weight)

    def target(self, weight: Tensor) -> Conductances:
        if self.zero_state:
            return self._target_with_zero_state(weight)
        span, full = self.g_max - self.g_min, self.full_scale(weight)
        w = self.represent(weight) / full
        sides = _parts(w) if self.mapping == "one-sided" else torch.stack((1 + w, 1 - w)).div_(2)
        connected = None
        if self.inactive == "disconnected":
            positive = weight >= 0
            connected = torch.stack((positive, ~positive)).unsqueeze(0)
        scale = self._scales(span / full)
        cells = self.within(sides.mul_(span).add_(self.g_min)).unsqueeze(0)
        return Conductances(cells, None, scale, connected)

    def _target_with_zero_state(self, weight: Tensor) -> Conductances:
        full = self.full_scale(weight)
        w = Array.represent(self, weight)
        wanted = _parts(w).mul_(self.g_max / full)
        connected = self._connected(wanted)
        cells = wanted.clamp(self.g_min, self.g_max) * connected.to(torch.uint8)
        cells = straight_through(cells, wanted)
        return Conductances(cells[None], None, self._scales(self.g_max / full), connected[None])

    def decode(self, g: Conductances) -> Tensor:
        cells = g.conducting
        weights = (cells[:, 0] - cells[:, 1]).div_(g.per_weight)
        return weights.squeeze(0) if len(weights) == 1 else weights.sum(0)

    def inventory(self, inputs: int, outputs: int) -> Inventory:
        """2·N·M cells; two IV converters and a subtractor (four resistors) a neuron [derived]."""
        return Inventory(2 * inputs * outputs, 2 * outputs + 4 * outputs, 3 * outputs)
