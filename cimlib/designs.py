"""Published chip designs by name."""

from __future__ import annotations

from typing import overload

from cimlib import hardware
from cimlib.hardware import Hardware
from cimlib.multilevel import RATIOS, LevelSpread, SignedArray

#: 8-bit weights in 2-bit cells, one draw a weight, weights not quantised: the released code of NFT
_NFT = {
    f"nft-{cell}": Hardware(LevelSpread(0.1, ratio, slices=4), SignedArray())
    for cell, ratio in RATIOS.items()
}


@overload
def presets() -> tuple[str, ...]: ...
@overload
def presets(name: str) -> Hardware: ...
def presets(name: str | None = None) -> tuple[str, ...] | Hardware:
    """Names of the presets, or the one called ``name``.

    Raises ``ValueError`` with the list for an unknown name.
    """
    names = (*hardware.presets(), *_NFT)
    if name is None:
        return names
    if name not in names:
        raise ValueError(f"name = {name!r} is not a preset; allowed: {', '.join(names)}")
    return _NFT[name] if name in _NFT else hardware.presets(name)
