"""A verdict must follow from the records and from nothing else."""

import json

import numpy as np
import pytest
import yaml
from scipy import stats

from companion import claims, records

RNG = np.random.default_rng(0)
ERRORS = {"a": RNG.normal(5, 1, 50), "b": RNG.normal(8, 3, 50), "same": np.full(50, 5.0)}


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """Records of three structures with known errors, and a function that writes a ledger of one claim."""
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    folder = tmp_path / "results" / "deployed"
    folder.mkdir(parents=True)
    for name, values in ERRORS.items():
        record = {
            "experiment": "deployed",
            "params": {"structure": name, "scale": "desk"},
            "result": {"error": values.tolist(), "other": (values / 2).tolist(), "digital": [4.0]},
            "digest": records.code_digest("deployed"),
        }
        (folder / f"{name}.json").write_text(json.dumps(record))

    def write(*evidence, **change):
        entry = {
            "id": "one",
            "statement": "a is |small|",
            "where": "Table 1",
            "provenance": "reported",
            "measure": "the error",
            "scale": "desk",
            "unit": "points",
            "evidence": list(evidence),
            **change,
        }
        (tmp_path / "paper.yml").write_text(yaml.safe_dump([entry]))
        return claims.load("paper", tmp_path)[0]

    return write


def of(structure="a", value="error"):
    return {"experiment": "deployed", "value": value, "given": {"structure": structure}}


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ({"below": 6.0}, "holds"),
        ({"below": 4.0}, "fails"),
        ({"below": 5.0}, "open"),
        ({"above": 6.0}, "fails"),
    ],
)
def test_a_mean_holds_if_its_whole_interval_does(ledger, rule, status):
    (measured,) = ledger({"label": "a", "of": of(), **rule}).measured
    expected = stats.ttest_1samp(ERRORS["a"], 0).confidence_interval(0.95)
    assert (measured.low, measured.high) == pytest.approx((expected.low, expected.high))
    assert measured.status == status and measured.n == 50


def test_a_difference_is_paired(ledger):
    (measured,) = ledger(
        {"label": "a - b", "of": of(), "against": {"given": {"structure": "b"}}, "below": 0.0}
    ).measured
    expected = stats.ttest_rel(ERRORS["a"], ERRORS["b"]).confidence_interval(0.95)
    assert (measured.low, measured.high) == pytest.approx((expected.low, expected.high))
    assert measured.status == "holds"


def test_spreads_and_ratios_have_bootstrap_intervals_that_repeat(ledger):
    other = {"given": {"structure": "b"}}
    spread = {"label": "std", "of": of(), "against": other, "statistic": "std", "below": 0.0}
    ratio = {"label": "ratio", "of": of(), "against": other, "compare": "ratio", "below": 1.0}
    alone = {"label": "alone", "of": of(), "statistic": "std", "below": 2.0}
    first = ledger(spread, ratio, alone).measured
    assert [m.status for m in first] == ["holds"] * 3
    assert first[0].estimate == pytest.approx(ERRORS["a"].std(ddof=1) - ERRORS["b"].std(ddof=1))
    assert first[1].estimate == pytest.approx(ERRORS["a"].mean() / ERRORS["b"].mean())
    assert all(m.low < m.estimate < m.high for m in first)
    assert ledger(spread, ratio, alone).measured == first


def test_one_value_is_compared_with_every_chip(ledger):
    (found,) = ledger({"label": "loss", "of": of(), "against": {"value": "digital"}, "above": 0.0}).measured
    low, high = stats.ttest_1samp(ERRORS["a"] - 4.0, 0.0).confidence_interval()
    assert (found.n, found.status) == (50, "holds")
    assert [found.estimate, found.low, found.high] == pytest.approx([ERRORS["a"].mean() - 4.0, low, high])
    turned = {"label": "gain", "of": of(value="digital"), "against": {"value": "error"}, "below": 0.0}
    (same,) = ledger(turned).measured
    assert [-same.estimate, -same.high, -same.low] == pytest.approx([found.estimate, found.low, found.high])


def test_a_ratio_of_constants_has_no_width(ledger):
    evidence = {"label": "same", "of": of("same"), "against": {"value": "other"}, "compare": "ratio"}
    claim = ledger(evidence)
    (measured,) = claim.measured
    assert (measured.low, measured.estimate, measured.high) == (2.0, 2.0, 2.0)
    assert "same: 2.0 points, the same for all n = 50" in claims.table([claim])


def test_what_must_hold_of_every_value_is_decided_by_the_worst(ledger):
    worst, best = float(ERRORS["a"].max()), float(ERRORS["a"].min())
    evidence = [
        {"label": "all below", "of": of(), "statistic": "max", "below": worst + 1e-9},
        {"label": "not all", "of": of(), "statistic": "max", "below": worst - 1e-9},
        {"label": "all above", "of": of(), "statistic": "min", "above": best - 1e-9},
    ]
    claim = ledger(*evidence)
    assert [m.status for m in claim.measured] == ["holds", "fails", "holds"]
    assert [m.estimate for m in claim.measured] == [worst, worst, best]
    assert "the largest of n = 50" in claims.table([claim])


@pytest.mark.parametrize(
    ("bounds", "verdict"),
    [
        ((6.0, 6.0), "reproduced"),
        ((6.0, 4.0), "partly"),
        ((4.0, 4.0), "not reproduced"),
        ((5.0, 4.0), "not reproduced"),
        ((5.0, 5.0), "undecided"),
        ((5.0, 6.0), "partly"),
    ],
)
def test_the_verdict_follows_from_all_the_evidence(ledger, bounds, verdict):
    claim = ledger(*({"label": "a", "of": of(), "below": bound} for bound in bounds))
    assert claim.verdict == verdict


def test_a_reason_in_place_of_evidence_is_not_testable_here(ledger):
    assert ledger(reason="the number is not known").verdict == "not testable here"


def test_a_claim_needs_evidence_or_a_reason(ledger):
    with pytest.raises(ValueError, match="'one' needs evidence or a reason"):
        ledger()
    with pytest.raises(ValueError, match="not both"):
        ledger({"label": "a", "of": of()}, reason="none")


def test_records_of_older_code_decide_nothing(ledger):
    path = records.RESULTS / "deployed" / "a.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "digest": "0" * 16}))
    claim = ledger({"label": "a", "of": of(), "below": 6.0}, {"label": "b", "of": of("b"), "below": 0.0})
    assert [m.status for m in claim.measured] == ["stale", "fails"] and claim.verdict == "stale records"


def test_stragglers_are_counted_and_too_few_trainings_decide_nothing(ledger):
    behind = int((ERRORS["b"] < ERRORS["b"].mean() - 5).sum())
    assert behind > 0
    rule = {"of": of("b"), "statistic": "stragglers", "above": behind - 0.5, "below": behind + 0.5}
    claim = ledger({"label": "enough", **rule, "needs": 50}, {"label": "too few", **rule, "needs": 51})
    assert [(m.estimate, m.status) for m in claim.measured] == [(behind, "holds"), (behind, "open")]
    assert f"enough: {behind}.0 points, of n = 50: *holds*" in claims.table([claim])


def test_a_claim_waits_for_records_that_a_sweep_asks_for_and_for_no_others(ledger):
    here = {"label": "a", "of": of(), "below": 6.0}
    claim = ledger(here, {"label": "to come", "of": of(), "against": {"given": {"structure": "double"}}})
    assert [m.status for m in claim.measured] == ["holds", "missing"] and claim.verdict == "not run yet"
    assert "• to come: *missing*" in claims.table([claim])
    with pytest.raises(ValueError, match="no record has"):
        ledger(here, {"label": "never", "of": of("no such structure")})


def test_evidence_that_selects_several_records_is_refused(ledger):
    evidence = {"experiment": "deployed", "value": "error", "given": {"scale": "desk"}}
    with pytest.raises(ValueError, match="3 records of deployed"):
        ledger({"label": "a", "of": evidence, "below": 6.0})


def test_values_that_cannot_be_paired_are_refused(ledger):
    path = records.RESULTS / "deployed" / "b.json"
    record = json.loads(path.read_text())
    record["result"]["error"] = [1.0, 2.0]
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="50 and 2 values"):
        ledger({"label": "a", "of": of(), "against": {"given": {"structure": "b"}}})


@pytest.fixture
def train(ledger):
    """A function that adds the record of one training of a structure, validated on its test errors."""

    def add(structure, seed, values, digest=None, **params):
        others = "-".join(str(value) for value in params.values())
        path = records.RESULTS / "deployed" / f"{structure}-{9 - seed}-{others}.json"  # the last seed first
        record = {
            "experiment": "deployed",
            "params": {"structure": structure, "scale": "desk", "seed": seed, **params},
            "result": {"error": list(values), "validation_error": list(values)},
            "digest": digest or records.code_digest("deployed"),
        }
        path.write_text(json.dumps(record))

    return add


def over(structure, against=None, **rule):
    evidence = {"label": structure, "of": {**of(structure), "over": "seed"}, **rule}
    return evidence if against is None else {**evidence, "against": {"given": {"structure": against}}}


def test_a_training_gives_one_value_its_mean(ledger, train):
    for seed, values in enumerate([(1.0, 3.0), (4.0, 6.0), (3.0, 9.0, 12.0)]):
        train("x", seed, values)
    read, stale = claims.Reading("deployed", {"structure": "x"}, "error", over="seed").values()
    assert read.to_dict() == {0: 2.0, 1: 5.0, 2: 8.0} and list(read.index) == [0, 1, 2] and not stale
    (measured,) = ledger(over("x")).measured
    expected = stats.ttest_1samp([2.0, 5.0, 8.0], 0).confidence_interval(0.95)
    assert (measured.low, measured.high) == pytest.approx((expected.low, expected.high))
    assert (measured.estimate, measured.n) == (5.0, 3)


def test_trainings_are_paired_by_the_seeds_that_both_have(ledger, train):
    for seed, value in {0: 1.0, 1: 100.0, 2: 3.0, 4: 7.0}.items():
        train("x", seed, [value])
    for seed, value in {4: 1.0, 3: -100.0, 2: 1.0, 0: 0.0}.items():
        train("y", seed, [value, value])
    (measured,) = ledger(over("x", "y")).measured
    expected = stats.ttest_1samp([1.0, 2.0, 6.0], 0).confidence_interval(0.95)
    assert (measured.low, measured.high) == pytest.approx((expected.low, expected.high))
    assert (measured.estimate, measured.n) == (3.0, 3)


def test_trainings_that_share_no_seed_cannot_be_paired(ledger, train):
    train("x", 0, [1.0])
    train("y", 1, [1.0])
    with pytest.raises(ValueError, match="x: 0 and 0 values cannot be paired"):
        ledger(over("x", "y"))


def test_trainings_that_differ_in_more_than_the_seed_are_refused(ledger, train):
    for seed, lr in [(0, 0.1), (1, 0.1), (1, 0.2)]:
        train("x", seed, [1.0], lr=lr)
    with pytest.raises(ValueError, match="differ not only in seed"):
        ledger(over("x"))


def test_each_training_may_be_tuned(ledger, train):
    for seed, lr, value in [(0, 0.1, 1.0), (0, 0.2, 5.0), (1, 0.1, 9.0), (1, 0.2, 2.0)]:
        train("x", seed, [value], lr=lr)
    evidence = over("x")
    evidence["of"] |= {"tuned": "lr"}
    (measured,) = ledger(evidence).measured
    assert (measured.estimate, measured.n) == (1.5, 2)


def test_one_training_by_older_code_makes_the_evidence_stale(ledger, train):
    for seed in range(3):
        train("x", seed, [float(seed)])
        train("y", seed, [float(seed)], digest="0" * 16 if seed == 1 else None)
    claim = ledger(over("x", above=-9.0), over("x", "y", above=-9.0), over("y", "x", above=-9.0))
    assert [m.status for m in claim.measured] == ["holds", "stale", "stale"]
    assert claim.verdict == "stale records"


@pytest.mark.parametrize(
    ("rule", "estimate"),
    [({}, 6.0), ({"compare": "ratio"}, 4.0), ({"statistic": "std"}, np.nan)],
)
@pytest.mark.parametrize("bound", [{"above": 0.0}, {"below": 0.0}])
def test_one_training_has_no_interval_and_decides_nothing(ledger, train, rule, estimate, bound):
    train("x", 0, [7.0, 9.0])
    train("y", 0, [1.0, 3.0])
    claim = ledger(over("x", "y", **rule, **bound))
    (measured,) = claim.measured
    assert measured.estimate == pytest.approx(estimate, nan_ok=True)
    assert np.isnan([measured.low, measured.high]).all()
    assert (measured.n, measured.status, claim.verdict) == (1, "open", "undecided")
    assert "n = 1, without an interval: *open*" in claims.table([claim])


def test_an_unknown_paper_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="gao2019ieice"):
        claims.load("nobody2020")


def test_the_table_shows_statement_numbers_and_verdict_and_escapes_bars(ledger):
    text = claims.table([ledger({"label": "a", "of": of(), "below": 6.0})])
    assert r"a is \|small\|" in text and "n = 50: *holds*" in text and "**reproduced** (desk)" in text


@pytest.mark.parametrize("paper", claims.papers())
def test_every_ledger_reads_its_records_and_none_is_stale(paper):
    assert all(claim.verdict != "stale records" for claim in claims.load(paper))


def test_the_summary_has_every_claim():
    table = claims.summary()
    assert set(table.paper) == set(claims.papers()) and table.id.is_unique
