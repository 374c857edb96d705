"""The figures of the book that move: what each of them is given, by its name.

A figure that moves has a script, ``_extra/moving/<name>.js``, and here the function that makes its data, from
the library or from committed records: whole numbers and rounded ones, so that they are the same everywhere.
A drawing of class ``moving-<name>`` moves, and so does a figure of a notebook for which :func:`moves` was
called (:mod:`companion.rendering.moving`); where no script runs, both stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from companion.moving import (
    amplifier_chain,
    anatomy,
    common_or_own,
    hundred_chips,
    pulse_game,
    rows_that_move,
)
from companion.moving.carried import moves, packed

Data = dict[str, Any]

#: The data of drawings that move, by name; a figure of a notebook carries its own.
DATA: dict[str, Callable[[], Data]] = {
    "amplifier-chain": amplifier_chain.data,
    "anatomy": anatomy.data,
    "hundred-chips": hundred_chips.data,
    "pulse-game": pulse_game.data,
    "rows-that-move": rows_that_move.data,
}

__all__ = ["DATA", "Data", "common_or_own", "moves", "packed"]
