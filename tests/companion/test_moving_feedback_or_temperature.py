"""What each part of a loss gains, in pairs of trainings with the same seed."""

import pandas as pd
import pytest

from cimlib.chip import interval
from companion.moving import feedback_or_temperature


def test_gains_are_of_pairs_and_what_was_not_run_has_no_numbers() -> None:
    noise, ovf, irs = (pd.Series(values, dtype=float) for values in ([50, 60, 70], [60, 71], [80]))
    ways = {"noise": noise, "ovf": ovf, "irs": irs, "part": ovf + 2, "unseen": pd.Series(dtype=float)}
    told = feedback_or_temperature.data({0.2: ways})
    (found,) = told["spreads"]
    assert told["enough"] == 5 and found["sigma"] == 0.2 and found["noise"]["mean"] == 60
    assert found["gains"]["ovf"]["each"] == [10, 11]
    assert [found["gains"]["ovf"][k] for k in ("low", "high")] == pytest.approx(interval([10, 11]), abs=1e-4)
    assert found["than"]["ovf"] == {
        "part": {"mean": 2, "low": 2, "high": 2, "n": 2},
        "unseen": {"mean": None, "low": None, "high": None, "n": 0},
    }
    assert found["than"]["irs"]["part"] == {"mean": -18, "low": None, "high": None, "n": 1}
