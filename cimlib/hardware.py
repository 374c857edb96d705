"""One description of a chip design: which device, which array, which circuit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import overload

from cimlib.arrays import Array, BitSliced, DoubleArray, SingleArray
from cimlib.circuits import Circuit, Ideal, OpAmp
from cimlib.devices import Device, Effect, Gaussian


@dataclass(frozen=True)
class Hardware:
    """A frozen description; by default every effect is off.

    Args:
        device: what a cell does; one effect alone may be given.
        array: how weights sit in conductances.
        circuit: how the array is read.

    Raises ``TypeError`` naming the argument if one of them is of another kind, ``ValueError`` if the
    circuit cannot read the array.
    """

    device: Device | Effect = field(default_factory=Device)
    array: Array = field(default_factory=DoubleArray)
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
        """The device, always as a :class:`~cimlib.devices.Device`."""
        assert isinstance(self.device, Device)
        return self.device

    def with_sigma(self, sigma: float) -> Hardware:
        """The same hardware at another programming spread (see :class:`~cimlib.devices.Gaussian`)."""
        return replace(self, device=self.cell.with_sigma(sigma))

    def at(self, t: float | str) -> Hardware:
        """The same hardware at another time since programming, e.g. ``hardware.at("10 years")``.

        Args:
            t: s, or text as in :func:`~cimlib.devices.seconds`.

        Raises ``ValueError`` if nothing in it has a clock, or for a time that is no time.
        """
        return replace(self, device=self.cell.at(t))


_PRESETS: dict[str, Callable[[], Hardware]] = {
    "ideal": Hardware,
    # 10-100 µS: the range of the passive crossbar of Prezioso et al. (2015)
    "iris-double": lambda: Hardware(Gaussian(0.1), DoubleArray()),
    "iris-single-column": lambda: Hardware(Gaussian(0.1), SingleArray(reference="column")),
    "iris-single-constant": lambda: Hardware(Gaussian(0.1), SingleArray(reference="constant-term")),
    # range, zero state, V_0 and a supply of 1 V as quoted by the author's repository; gain and output at zero
    # read in a configuration of its code, the span of 0.35 V in another one, none of them known from the
    # paper; σ(V_os) is not found, 10 mV is ours, and so are the rails
    "jjap2024": lambda: Hardware(
        array=DoubleArray(g_min=10.0, g_max=1000.0, w_max=1.0, zero_state=True),
        circuit=OpAmp(gain=1369.0, at_zero=0.4859, offset=0.01, rails=(0.05, 0.95)),
    ),
    # 8-bit weights in 2-bit cells, unclipped, weights not quantised: the released code of NFT
    "nft-rram": lambda: Hardware(Gaussian(0.1, clip=False), BitSliced(quantise=False)),
}


@overload
def presets() -> tuple[str, ...]: ...
@overload
def presets(name: str) -> Hardware: ...
def presets(name: str | None = None) -> tuple[str, ...] | Hardware:
    """Names of the presets, or the one called ``name``.

    Raises ``ValueError`` with the list for an unknown name.
    """
    if name is None:
        return tuple(_PRESETS)
    if name not in _PRESETS:
        raise ValueError(f"name = {name!r} is not a preset; allowed: {', '.join(_PRESETS)}")
    return _PRESETS[name]()
