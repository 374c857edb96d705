"""One description of a chip design: which device, which array, which circuit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from cimlib.arrays.base import Array
from cimlib.arrays.pairs import DoubleArray
from cimlib.circuits.base import Circuit, Ideal
from cimlib.devices.effects import Device, Effect


@dataclass(frozen=True)
class Hardware:
    """A frozen description; by default every effect is off.

    Args:
        device: what a cell does; one effect alone may be given.
        array: how weights sit in conductances; by default in pairs of cells, each column with a scale of its
            own, so that one large weight leaves the errors of the other columns as they are. The designs of
            the publications have one scale for a layer: ``DoubleArray()``. A spread is a fraction of the
            range, and so of the largest weight of the column in the one, of the layer in the other.
        circuit: how the array is read.

    Raises ``TypeError`` naming the argument if one of them is of another kind, ``ValueError`` if the
    circuit cannot read the array.
    """

    device: Device | Effect = field(default_factory=Device)
    array: Array = field(default_factory=lambda: DoubleArray(scale="column"))
    circuit: Circuit = field(default_factory=Ideal)

    def __post_init__(self) -> None:
        if isinstance(self.device, Effect):
            object.__setattr__(self, "device", Device(self.device))
        for name, kind in (("device", Device), ("array", Array), ("circuit", Circuit)):
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"{name} = {getattr(self, name)!r} is not a {kind.__name__}")
        self.circuit.check(self.array)

    @property
    def cell(self) -> Device:
        """The device, always as a :class:`~.Device`."""
        assert isinstance(self.device, Device)
        return self.device

    def with_sigma(self, sigma: float) -> Hardware:
        """The same hardware at another programming spread (see :class:`~.Gaussian`)."""
        return replace(self, device=self.cell.with_sigma(sigma))

    @property
    def has_clock(self) -> bool:
        """Whether something in it drifts, so that :meth:`at` has a meaning."""
        return any(hasattr(effect, "at") for effect in self.cell.effects)

    def at(self, t: float | str) -> Hardware:
        """The same hardware at another time since programming, e.g. ``hardware.at("10 years")``.

        Args:
            t: s, or text as in :func:`~.seconds`.

        Raises ``ValueError`` if nothing in it has a clock, or for a time that is no time.
        """
        return replace(self, device=self.cell.at(t))
