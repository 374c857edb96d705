"""Feedback or temperature: what each part of a loss gains over noise alone, training by training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cimlib.chip import interval
from companion.claims.ledger import TRAININGS

#: The methods whose gain is in question; what lacks one of their parts is compared with them.
METHODS = ("ovf", "irs")


def data(accuracies: Mapping[float, Mapping[str, pd.Series[Any]]]) -> dict[str, Any]:
    """What is shown of ``accuracies`` (%, by seed) for each spread and each way to train, ``"noise"`` and
    :data:`METHODS` among them: gains over noise, and how far each part lies above each method, in pairs of
    trainings with the same seed. ``enough`` trainings decide."""
    return {"enough": TRAININGS, "spreads": [_spread(s, ways) for s, ways in accuracies.items()]}


def _spread(sigma: float, ways: Mapping[str, pd.Series[Any]]) -> dict[str, Any]:
    rest = {name: values for name, values in ways.items() if name != "noise"}
    parts = {name: values for name, values in rest.items() if name not in METHODS}
    return {
        "sigma": sigma,
        "noise": _summary(ways["noise"]),
        "gains": {name: _gains(values - ways["noise"]) for name, values in rest.items()},
        "than": {
            method: {name: _summary(values - ways[method]) for name, values in parts.items()}
            for method in METHODS
        },
    }


def _gains(points: pd.Series[Any]) -> dict[str, Any]:
    return {"each": [round(value, 2) for value in points.dropna().tolist()], **_summary(points)}


def _summary(values: pd.Series[Any]) -> dict[str, Any]:
    """Mean, 95 % interval of the mean and number; ``None`` where there is none."""
    found = values.dropna().to_numpy(dtype=float)
    low, high = interval(found)
    mean = found.mean() if len(found) else np.nan
    told = {"mean": mean, "low": low, "high": high}
    return {**{k: None if np.isnan(v) else round(float(v), 4) for k, v in told.items()}, "n": len(found)}
