"""Remedies are compared on the same chips, and what is printed is what their values say."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from companion import records, sidecars
from companion.claims.intervals import Sample, of_mean
from companion.comparison import Way, expected, sample, table

PLAIN = Sample(np.array([90.0, 92.0, 94.0, 91.0]))
BETTER = Sample(np.array([93.0, 94.5, 98.0, 94.0]))


def test_differences_are_paired_and_their_interval_is_student_s():
    ways = {"none": Way(PLAIN, "nothing", "nothing"), "remedy": Way(BETTER, "the chip", "a pass")}
    found = table(ways, "none")
    difference = BETTER.values - PLAIN.values
    half = stats.t.ppf(0.975, 3) * difference.std(ddof=1) / 2
    mean = difference.mean()
    assert (
        f"| remedy | the chip | a pass | 94.9 | 93.0 | +{mean:.1f} [{mean - half:.1f}, {mean + half:.1f}] |"
        in found
    )
    assert "| none | nothing | nothing | 91.8 | 90.0 |  |" in found
    assert found.endswith("over 4 chips.")
    assert table(ways, "none", unit="network").endswith(
        "network by network, with 95 % intervals over 4 networks."
    )


def test_images_widen_the_interval_where_all_chips_read_the_same():
    rng = np.random.default_rng(0)
    easy = rng.uniform(size=200) < 0.9
    right = np.float32(100) * (easy ^ (rng.uniform(size=(4, 200)) < 0.02))
    one = Sample(right.mean(1).astype(np.float64), right)
    low, high = of_mean(one)
    assert expected(one) == f"{one.values.mean():.1f} ± {(high - low) / 2:.1f}"
    alone = Sample(one.values)
    assert float(expected(one).split("± ")[1]) > 2 * float(expected(alone).split("± ")[1])
    other = Sample(right[::-1].mean(1).astype(np.float64), right[::-1])
    both = {"a": Way(one, "", ""), "b": Way(other, "", "")}
    assert table(both, "a").endswith("over 4 chips × 200 images.")
    assert table({**both, "c": Way(alone, "", "")}, "a").endswith("over 4 chips.")


def test_a_record_s_images_are_read_with_its_values(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    (tmp_path / "deployed").mkdir()
    hits = np.array([[True, False], [True, True]])
    kept = sidecars.write(tmp_path / "deployed" / "key.json", {"accuracy": hits})
    row = pd.Series({"accuracy": [50.0, 100.0], "right": kept, "experiment": "deployed", "key": "key"})
    assert np.array_equal(sample(row).right, 100 * hits)
    assert sample(pd.Series({"error": [1.0, 2.0], "right": {}}), "error").right is None


def test_other_chips_and_unknown_references_are_refused():
    with pytest.raises(ValueError, match="chips = {'a': 4, 'b': 3} are not allowed; allowed: the same chips"):
        table({"a": Way(PLAIN, "", ""), "b": Way(BETTER.rows([0, 1, 2]), "", "")}, "a")
    with pytest.raises(ValueError, match="against = 'c' is not allowed; allowed: 'a'"):
        table({"a": Way(PLAIN, "", "")}, "c")
