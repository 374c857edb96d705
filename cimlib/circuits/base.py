"""What every read-out circuit is, and the ideal one.

A circuit is given the layer's own linear operation ``op(weight, bias=None, x=None)`` rather than its
result, because it may call it once, once per branch, or with changed inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from cimlib.arrays.base import Array, Conductances
from cimlib.devices.draws import Draw


class Operation(Protocol):
    """The layer's linear map; ``x`` defaults to the layer's input, which is its attribute ``x``."""

    @property
    def x(self) -> Tensor: ...

    def __call__(self, weight: Tensor, bias: Tensor | None = None, x: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Circuit:
    """Base of all read-out circuits."""

    @property
    def has_activation(self) -> bool:
        """Whether a ReLU behind a layer is a circuit too: :meth:`activation` of this class."""
        return False

    @property
    def reads_cells(self) -> bool:
        """Whether it needs the conductances themselves, not only the weights they amount to."""
        return True

    def check(self, array: Array, layer: nn.Module | None = None) -> None:
        """Raise ``ValueError`` if this circuit cannot read ``array``, or ``layer`` in it."""

    def draws(self, array: Array, weight: tuple[int, ...]) -> dict[str, Draw]:
        """Standard draws for a layer whose weights have shape (out, in, ...)."""
        return {}

    def effective(self, g: Conductances, groups: int = 1) -> Conductances:
        """The conductances, µS, that the array holding ``g`` seems to have from outside; ``groups`` of the
        layer's outputs are arrays of their own."""
        return g

    def __call__(
        self,
        op: Operation,
        array: Array,
        g: Conductances,
        weight: Tensor,
        bias: Tensor | None,
        z: Mapping[str, Tensor],
    ) -> Tensor:
        """Output of the layer, given effective conductances in µS and the weights they amount to."""
        raise NotImplementedError

    def activation_draws(self, outputs: int) -> dict[str, Draw]:
        """Standard draws for the activation circuits behind a layer of ``outputs`` columns."""
        return {}

    def activation(self, x: Tensor, z: Mapping[str, Tensor], dim: int) -> Tensor:
        """What a ReLU makes of a layer's output ``x``, whose columns lie along ``dim``."""
        return x.relu()


@dataclass(frozen=True)
class Ideal(Circuit):
    """Ohm and Kirchhoff and nothing else: a perfect virtual ground, no offset, no limit."""

    @property
    def reads_cells(self) -> bool:
        return False

    def __call__(
        self,
        op: Operation,
        array: Array,
        g: Conductances,
        weight: Tensor,
        bias: Tensor | None,
        z: Mapping[str, Tensor],
    ) -> Tensor:
        return op(weight, bias)
