"""Cells that hold what was measured of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from cimlib.devices.draws import Draw
from cimlib.devices.effects import Effect, require, straight_through


@dataclass(frozen=True, eq=False)
class Measured(Effect):
    """The conductances that the cells of one layer of one chip were measured to have.

    :func:`.with_conductances` makes it. What was measured belongs to one chip and to the targets that it was
    programmed to. Its only draw is that chip's mark: on another chip, and once the layer asks for other
    conductances, it raises ``ValueError`` and gives no number. The gradient is that of the target.

    Args:
        chip: the chip that was measured.
        mark: (4,) for the cells, and for a reference made of cells if there is one: their ``measured`` draws
            on that chip.
        cells: conductances asked for and measured, µS, both (slices, sides, out, in, ...); ``None`` if the
            layer is trained in its array, where what is asked for is what was measured.
        reference: the same of a reference made of cells, both (in, ...), or ``None``.
    """

    unit_gradient: ClassVar[bool] = True

    chip: int
    mark: tuple[Tensor, ...] = field(repr=False)
    cells: tuple[Tensor, Tensor] | None = field(repr=False)
    reference: tuple[Tensor, Tensor] | None = field(default=None, repr=False)

    def draws(self, shape: tuple[int, ...]) -> dict[str, Draw]:
        return {"measured": ("normal", (4,))}

    def __call__(self, g: Tensor, z: Mapping[str, Tensor], g_min: float, g_max: float) -> Tensor:
        mark = z["measured"].to(g)
        own = any(bool((mark - one.to(g)).abs().max() <= 1e-2) for one in self.mark)
        allowed = f"chip {self.chip}, whose cells were measured: evaluate(model, x, y, chips=[{self.chip}])"
        require(own, "chip", "another one", allowed)
        is_reference = self.reference is not None and g.shape == self.reference[0].shape
        held = self.reference if is_reference else self.cells
        if held is None:
            return g
        asked, obtained = (value.to(g) for value in held)
        require(g.shape == asked.shape, "shape of g", tuple(g.shape), f"{tuple(asked.shape)}, as measured")
        same = bool(((asked - g.detach()).abs() <= 1e-4 * (g_max - g_min)).all())
        what = "other conductances than those that were programmed when the cells were measured"
        require(same, "weights", what, "the weights of then; program anew for others, and measure again")
        return straight_through(obtained, g)
