"""Kinds of chips whose tests err: what a remedy is told of cells or amplifiers is not the truth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from cimlib.bench.measurement import measured
from cimlib.chip.crossbar import Crossbar, crossbars, fabricated
from cimlib.chip.fabrication import fabricate
from cimlib.devices.draws import seeded
from cimlib.devices.effects import StuckAt, require, require_whole
from cimlib.methods.mapping import mapped
from cimlib.remedies.chips import Kind


@dataclass(frozen=True)
class Inspected(Kind):
    """Cells that are tested one by one, in arrays with spare rows and tiles, perhaps.

    Args:
        missed: fraction of the stuck cells that the test takes for good ones.
        false_alarms: fraction of the good cells that it takes for stuck ones, as often on as off.
        mismeasured: std of ln g of what is wrong with each measured spread of a cell, ≥ 0.
        spares, tile: of the layout, as in :func:`~.mapped`: spare rows ≥ 0; (rows, columns) ≥ 1, or none.

    Raises ``ValueError`` for arguments out of range.
    """

    missed: float = 0.0
    false_alarms: float = 0.0
    mismeasured: float = 0.0
    spares: int = 0
    tile: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("missed", "false_alarms"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), f"0 ≤ {name} ≤ 1")
        finite = 0 <= self.mismeasured < float("inf")
        require(finite, "mismeasured", self.mismeasured, "0 ≤ mismeasured < ∞ (std of ln g)")
        require_whole("spares", self.spares, 0)
        sizes = (
            isinstance(self.tile, tuple) and [isinstance(n, int) and n >= 1 for n in self.tile] == [True] * 2
        )
        require(self.tile is None or sizes, "tile", self.tile, "None or (rows, columns), integers ≥ 1")

    def lay(self, model: nn.Module) -> nn.Module:
        """A test speaks of cells where they lie, so that the layout comes first."""
        if self.spares or self.tile or self.missed or self.false_alarms or self.mismeasured:
            return mapped(model, rows=False, spares=self.spares, tile=self.tile)
        return model

    @torch.no_grad()
    def test(self, model: nn.Module, number: int) -> nn.Module:
        """Let ``model`` hold, in place of the chip's own draws, what the test reports of them.

        Raises ``ValueError`` for errors of a test of what the cells do not have: stuck cells one by one
        (:class:`~.StuckAt`), and a spread.
        """
        for layer in crossbars(model):
            alone = any(isinstance(effect, StuckAt) for effect in layer.hardware.cell.effects)
            errs = (self.missed, self.false_alarms)
            require(alone or errs == (0, 0), "(missed, false_alarms)", errs, "(0, 0) without StuckAt")
            for name, z in layer.named_buffers(recurse=False):
                generator = seeded("test", number, layer.name, name)
                if name.endswith("/programming") and self.mismeasured:
                    wrong = torch.randn(z.shape, generator=generator).to(z)
                    z.add_(wrong, alpha=self.mismeasured / _sigma(layer))
                if name.endswith("/stuck") and (self.missed or self.false_alarms):
                    on, off = _stuck(layer)
                    u = torch.rand(z.shape, generator=generator).to(z)
                    stuck = (z < on) | (z >= 1 - off)
                    z[stuck & (u < self.missed)] = (on + 1 - off) / 2  # a draw of a cell that works
                    z[~stuck & (u < self.false_alarms / 2)] = 0.0
                    z[~stuck & (u >= 1 - self.false_alarms / 2)] = 1.0
        return model


def _sigma(layer: Crossbar) -> float:
    """Spread of the cells of ``layer``; raises ``ValueError`` if they have none."""
    found = [float(effect.sigma) for effect in layer.hardware.cell.effects if hasattr(effect, "sigma")]
    require(bool(found), "mismeasured", "an error of a spread", f"0 for {layer.hardware.device}")
    return found[0]


def _stuck(layer: Crossbar) -> tuple[float, float]:
    """Fractions of cells of ``layer`` stuck on and off, one by one."""
    return next((one.on, one.off) for one in layer.hardware.cell.effects if isinstance(one, StuckAt))


@dataclass(frozen=True)
class Emulated(Kind):
    """Amplifiers that are measured for an emulator of the chip, which knows nothing of how its cells scatter.

    Programming errors with a ``sigma`` are unknown to it; of stuck cells and drift it knows everything. A
    programming error without one, such as that of :class:`~.PCM` or :class:`~.Levels`, is refused when the
    emulator is made: it would know that cell by cell.

    Args:
        error: std of each reading, V, ≥ 0; see :func:`~.measured`.
        seed: of the errors, ≥ 0.

    Raises ``ValueError`` for arguments out of range.
    """

    error: float = 0.0
    seed: int = 0

    cells_tested = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.error < float("inf"), "error", self.error, "0 ≤ error < ∞ (V)")
        require_whole("seed", self.seed, 0)

    def test(self, model: nn.Module, number: int) -> nn.Module:
        """The emulator: amplifiers as they are measured, cells without the spread of their programming."""
        for module in fabricated(model):
            for effect in module.hardware.cell.effects:
                known = "programming" in effect.draws(()) and not hasattr(effect, "sigma")
                said = "a programming error with a sigma, which the emulator leaves out: Gaussian, Lognormal"
                require(not known, f"device of layer {module.name!r}", effect, said)
            if any(hasattr(effect, "sigma") for effect in module.hardware.cell.effects):
                module.hardware = replace(module.hardware, device=module.hardware.cell.with_sigma(0.0))
        return measured(fabricate(model, number), self.error, seed=self.seed)
