"""Chips that age: cells of the chapters on drift, each in an array of the range for which it was measured."""

from __future__ import annotations

from dataclasses import dataclass as plain
from dataclasses import replace

from cimlib.arrays import DoubleArray
from cimlib.chip import Hardware
from cimlib.circuits import Converters, Ideal
from cimlib.devices import PCM, CMOReRAM, Drift, RelativeDrift, WanReRAM
from cimlib.remedies import Kind
from companion.tasks.kept import ranged
from companion.tasks.task import Task

# each cell as it is right after programming, in an array of the range for which it was measured, µS
CELLS: dict[str, tuple[Drift, DoubleArray]] = {
    "pcm": (PCM(), DoubleArray(0.0, 25.0)),
    "cmo": (CMOReRAM(), DoubleArray(*CMOReRAM.RANGE)),
    "cmo, 2 %": (CMOReRAM(acceptance="2 %"), DoubleArray(*CMOReRAM.RANGE)),
    "cmo, 2 %, unclipped": (CMOReRAM(acceptance="2 %", clip=False), DoubleArray(*CMOReRAM.RANGE)),
    "wan": (WanReRAM(), DoubleArray(0.0, 40.0)),
    "relative": (RelativeDrift(), DoubleArray(0.0, 100.0)),
}
TIMES = ("1 s", "1 minute", "1 hour", "1 day", "1 week", "1 month", "1 year", "10 years")


@plain(frozen=True)
class Aging(Kind):
    """Chips whose cells age, each range fixed by the digital network of a task."""

    cell: str = "pcm"
    rho: float = 0.2
    adc_bits: int = 0
    task: Task | None = None

    def effect(self, t: str) -> Drift:
        """The cell at a time; just programmed if there is none."""
        start, _ = CELLS[self.cell]
        if not t:
            return start
        return replace(start, rho=self.rho) if isinstance(start, RelativeDrift) else start.at(t)

    def cells(self, t: str) -> Hardware:
        """The cells in their array, whose range is open."""
        circuit = Converters(adc_bits=self.adc_bits) if self.adc_bits else Ideal()
        return Hardware(self.effect(t), CELLS[self.cell][1], circuit)

    def designs(self, t: str = "") -> dict[str, Hardware]:
        assert self.task is not None
        return ranged(self.task, self.cells(t))
