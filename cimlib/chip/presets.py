"""Published chip designs by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import overload

from cimlib.arrays.multilevel import RATIOS, LevelSpread, SignedArray
from cimlib.arrays.pairs import DoubleArray
from cimlib.arrays.single import SingleArray
from cimlib.arrays.sliced import BitSliced
from cimlib.chip.hardware import Hardware
from cimlib.circuits.opamp import OpAmp
from cimlib.devices.effects import Gaussian

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
    # 8-bit weights in 2-bit cells, one draw a weight, weights not quantised: the released code of NFT
    **{
        f"nft-{cell}": partial(Hardware, LevelSpread(0.1, ratio, slices=4), SignedArray())
        for cell, ratio in RATIOS.items()
    },
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
