"""From conductances to the output of a layer: what the read-out circuit does.

A circuit is given the layer's own linear operation ``op(weight, bias=None, x=None)`` rather than its
result, because it may call it once, once per branch, or with changed inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from cimlib.arrays import Conductances
from cimlib.devices import Draw


class Operation(Protocol):
    """The layer's linear map; ``x`` defaults to the layer's input."""

    def __call__(self, weight: Tensor, bias: Tensor | None = None, x: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Circuit:
    """Base of all read-out circuits."""

    def draws(self, weight: tuple[int, ...]) -> dict[str, Draw]:
        """Standard draws for a layer whose weights have shape (out, in, ...)."""
        return {}

    def __call__(
        self,
        op: Operation,
        g: Conductances,
        weight: Tensor,
        bias: Tensor | None,
        z: Mapping[str, Tensor],
    ) -> Tensor:
        """Output of the layer, given conductances in µS and the weights they amount to."""
        raise NotImplementedError


@dataclass(frozen=True)
class Ideal(Circuit):
    """Ohm and Kirchhoff and nothing else: a perfect virtual ground, no offset, no limit."""

    def __call__(
        self,
        op: Operation,
        g: Conductances,
        weight: Tensor,
        bias: Tensor | None,
        z: Mapping[str, Tensor],
    ) -> Tensor:
        return op(weight, bias)
