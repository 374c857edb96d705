"""A verdict must follow from the records and from nothing else."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from companion import claims, records

RNG = np.random.default_rng(0)
ERRORS = {"a": RNG.normal(5, 1, 50), "b": RNG.normal(8, 3, 50), "same": np.full(50, 5.0)}


ENTRY = {
    "id": "one",
    "statement": "a is |small|",
    "where": "Table 1",
    "provenance": "reported",
    "measure": "the error",
    "scale": "desk",
    "unit": "points",
}


MADE = {
    "data": {},
    "seconds": 1.0,
    "threads": 1,
    "commit": None,
    "versions": {},
    "platform": "",
}


def record(params, result, digest=None):
    """Write a record of ``deployed``; returns its path."""
    path = records.RESULTS / "deployed" / f"{records.key_of('deployed', params)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = digest or records.code_digest("deployed")
    content = {"experiment": "deployed", "params": params, "result": result, "digest": digest}
    records.write(path, {**MADE, **content})
    return path


def structure(name, digest=None, **change):
    values = ERRORS[name]
    result = {"error": values.tolist(), "other": (values / 2).tolist(), "digital": [4.0], **change}
    return record({"structure": name, "scale": "desk"}, result, digest)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Records of three structures with known errors, and a function that writes a ledger and loads it."""
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    for name in ERRORS:
        structure(name)

    def write(content):
        (tmp_path / "paper.yml").write_text(json.dumps(content), encoding="utf-8")
        return claims.load("paper", tmp_path)

    return write


@pytest.fixture
def ledger(written):
    """A function that writes a ledger of one claim and returns it."""

    def write(*evidence, **change):
        return written([{**ENTRY, "evidence": list(evidence), **change}])[0]

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
    claim = ledger({**evidence, "above": 1.9})
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
    with pytest.raises(ValueError, match="claim 'one': evidence, reason = neither is not allowed"):
        ledger()
    with pytest.raises(ValueError, match="claim 'one': evidence, reason = both is not allowed"):
        ledger({"label": "a", "of": of(), "below": 6.0}, reason="none")


def test_records_of_older_code_decide_nothing(ledger):
    structure("a", digest="0" * 16)
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
    to_come = {"label": "to come", "of": of(), "against": {"given": {"structure": "double"}}, "below": 0.0}
    claim = ledger(here, to_come)
    assert [m.status for m in claim.measured] == ["holds", "missing"] and claim.verdict == "not run yet"
    assert "• to come: *missing*" in claims.table([claim])
    with pytest.raises(ValueError, match="no record has"):
        ledger(here, {"label": "never", "of": of("no such structure"), "below": 6.0})


def test_evidence_that_selects_several_records_is_refused(ledger):
    evidence = {"experiment": "deployed", "value": "error", "given": {"scale": "desk"}}
    with pytest.raises(ValueError, match="3 records of deployed"):
        ledger({"label": "a", "of": evidence, "below": 6.0})


def test_values_that_cannot_be_paired_are_refused(ledger):
    structure("b", error=[1.0, 2.0])
    with pytest.raises(ValueError, match="50 and 2 values"):
        ledger({"label": "a", "of": of(), "against": {"given": {"structure": "b"}}, "below": 0.0})


@pytest.fixture
def train(ledger):
    """A function that adds the record of one training of a structure, validated on its test errors."""

    def add(structure, seed, values, digest=None, **params):
        result = {"error": list(values), "validation_error": list(values)}
        record({"structure": structure, "scale": "desk", "seed": seed, **params}, result, digest)

    return add


def over(structure, against=None, **rule):
    rule = rule if {"above", "below"} & set(rule) else {**rule, "below": 1e9}
    evidence = {"label": structure, "of": {**of(structure), "over": "seed"}, **rule}
    return evidence if against is None else {**evidence, "against": {"given": {"structure": against}}}


def test_a_training_gives_one_value_its_mean(ledger, train):
    for seed, values in enumerate([(1.0, 3.0), (4.0, 6.0), (3.0, 9.0, 12.0)]):
        train("x", seed, values)
    assert records.read("deployed").query("structure == 'x'").seed.tolist() != [0, 1, 2]
    read, stale = claims.values(claims.Reading("deployed", {"structure": "x"}, "error", over="seed"))
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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"statistic": "median"}, ["evidence.1.statistic = 'median'", "'mean', 'std'"]),
        ({"compare": "quotient"}, ["evidence.1.compare = 'quotient'", "'difference' or 'ratio'"]),
        ({"below": None}, ["evidence.1.below = None", "a float"]),
        ({"below": "6.0"}, ["evidence.1.below = '6.0'", "a float"]),
        ({"below": True}, ["evidence.1.below = True", "a float"]),
        ({"above": 7.0}, ["evidence.1.above = 7", "< below = 6"]),
        ({"above": 6.0}, ["evidence.1.above = 6", "< below = 6"]),
        ({"needs": 0}, ["evidence.1.needs = 0", "≥ 1"]),
        ({"needs": "two"}, ["evidence.1.needs = 'two'", "an int"]),
        ({"bellow": 6.0}, ["evidence.1.key = 'bellow'", "above, below, needs"]),
        ({"of": None}, ["evidence.1.of = None", "a mapping"]),
        ({"against": "b"}, ["evidence.1.against = 'b'", "a mapping"]),
        ({"against": {"given": "b"}}, ["evidence.1.against.given = 'b'", "a mapping"]),
        ({"against": {"experiment": "deploied"}}, ["evidence.1.against.experiment = 'deploied'"]),
        ({"of": {**of(), "experiment": "deploied"}}, ["evidence.1.of.experiment = 'deploied'", "'deployed'"]),
        ({"of": {**of(), "valu": "error"}}, ["evidence.1.of.key = 'valu'", "value, tuned, over"]),
        ({"of": {"experiment": "deployed", "given": {}}}, ["evidence.1.of.value is missing"]),
        ({"of": of(value="eror")}, ["value = 'eror'", "digital, error, other"]),
        ({"of": of(value="structure")}, ["value = 'structure'", "digital, error, other"]),
        ({"of": {**of(), "tuned": "rate"}}, ["tuned = 'rate'", "structure"]),
        ({"of": {**of(), "over": "sede"}}, ["over = 'sede'", "structure"]),
        ({"of": {**of(), "given": {"structur": "a"}}}, ["given = 'structur'", "structure"]),
        ({"of": {**of(), "given": {"key": "a"}}}, ["given = 'key'", "structure"]),
        ({"of": {**of(), "given": {"stale": False}}}, ["given = 'stale'", "structure"]),
        ({"of": {**of(), "given": {"error": 5.0}}}, ["given = 'error'", "structure"]),
        ({"of": {**of(), "given": {"structure": ["a"]}}}, ["structure = ['a']", "one value"]),
        ({"of": {**of(), "given": {"structure": {"a": 1}}}}, ["structure = {'a': 1}", "one value"]),
        (
            {"of": {**of(), "given": "b"}, "against": {"given": {}}},
            ["evidence.1.of.given = 'b'", "a mapping"],
        ),
        ({"of": {**of(), "given": None}, "against": {}}, ["evidence.1.of.given = None", "a mapping"]),
        ({"of": {**of(), "given": {1: "a"}}}, ["given = '1'", "structure"]),
        (
            {"of": {**of(), "given": {"scale": "quick"}}},
            ["scale = 'desk'", "allowed: 'quick', as the records"],
        ),
        ({"against": {"given": {"scale": "paper"}}}, ["scale = 'desk'", "allowed: 'paper', as the records"]),
        ({"of": {**of(), "tuned": "structure"}}, ["'validation_error' is not a column"]),
        ({"needs": True}, ["evidence.1.needs = True", "an int"]),
    ],
)
def test_wrong_evidence_is_refused_by_file_claim_field_value_and_what_is_allowed(ledger, change, words):
    with pytest.raises(ValueError, match=r"paper\.yml: claim 'one': ") as error:
        ledger({"label": "a", "of": of(), "below": 6.0, **change})
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize("limits", [{}, {"above": -np.inf}, {"above": -np.inf, "below": np.inf}])
def test_evidence_without_a_limit_is_refused(ledger, limits):
    with pytest.raises(ValueError, match="above, below = neither is not allowed; allowed: one of them"):
        claims.Evidence("a", claims.Reading(**of()), **limits)
    assert claims.Evidence("a", claims.Reading(**of()), above=-np.inf, below=6.0).below == 6.0
    with pytest.raises(ValueError, match="claim 'one': evidence.1.above, below = neither"):
        ledger({"label": "a", "of": of()})


def test_a_limit_is_a_number():
    for limits in [{"above": np.nan, "below": 1.0}, {"above": 1.0, "below": np.nan}]:
        with pytest.raises(ValueError, match="above = .* is not allowed; allowed: < below"):
            claims.Evidence("a", claims.Reading(**of()), **limits)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"digits": 2.5}, ["digits = 2.5", "an int"]),
        ({"digits": -1}, ["digits = -1", "≥ 0"]),
        ({"number": "46.71"}, ["number = '46.71'", "a float"]),
        ({"scale": "bench"}, ["scale = 'bench'", "'quick', 'desk' or 'paper'"]),
        ({"statment": "a"}, ["key = 'statment'", "statement"]),
        ({"measured": []}, ["key = 'measured'"]),
        ({"paper": "other"}, ["key = 'paper'"]),
        ({"unit": 1}, ["unit = 1", "a str"]),
        ({"evidence": {}}, ["evidence = {}", "a list"]),
        ({"evidence": [3]}, ["evidence.1 = 3", "a mapping"]),
    ],
)
def test_a_wrong_entry_is_refused_by_file_claim_field_value_and_what_is_allowed(ledger, change, words):
    with pytest.raises(ValueError, match=r"paper\.yml: claim 'one': ") as error:
        ledger({"label": "a", "of": of(), "below": 6.0}, **change)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "paper.yml: None is not allowed; allowed: a list of claims"),
        ({"id": "one"}, "a list of claims"),
        (["one"], "paper.yml: entry 1: this = 'one' is not allowed; allowed: a mapping"),
        ([{**ENTRY, "reason": "so"}, {"statement": "a"}], "paper.yml: entry 2: id is missing"),
        ([{**ENTRY, "reason": "so"}, {**ENTRY, "reason": "or so"}], "claim 'one': this id is not allowed"),
    ],
)
def test_a_ledger_is_a_list_of_claims_each_with_an_id_of_its_own(written, content, words):
    with pytest.raises(ValueError, match=r"paper\.yml") as error:
        written(content)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "paper.yml: None is not allowed; allowed: a list of claims"),
        ("- {id: one, id: two}", 'paper.yml: line 1: found duplicate key "id"'),
        ("- id: one\n\tstatement: a", "paper.yml: line 2: found character"),
        ("- id: one\n  digits: 01", "paper.yml: line 2: 01 is not how a number is written: 1 if"),
        ("- {id: [1]}", r"paper.yml: claim \[1\]: id = \[1\] is not allowed; allowed: a str"),
        ("- {id: 1}", "paper.yml: claim 1: id = 1 is not allowed; allowed: a str"),
        ("- &a [*a]", "paper.yml: entry 1: this = .* is not allowed; allowed: a mapping"),
        ("- {id: one, evidence: &a [{of: *a, against: *a}]}", "paper.yml: claim 'one': "),
    ],
)
def test_a_file_that_is_no_ledger_is_refused_by_file_and_line_or_claim(tmp_path, content, words):
    (tmp_path / "paper.yml").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        claims.load("paper", tmp_path)


@pytest.mark.parametrize(
    "values", [[1.0, np.nan], [np.inf], [], [[1.0, 2.0]], ["5"], [None], [True], 5.0, {"a": [5.0]}, "5"]
)
@pytest.mark.parametrize("rule", [{"statistic": "stragglers"}, {"statistic": "max"}, {}])
def test_a_result_that_is_no_list_of_finite_numbers_decides_nothing(ledger, values, rule):
    structure("a", error=values)
    with pytest.raises(
        ValueError, match=r"claim 'one': value = 'error' is not allowed.*a list of finite numbers"
    ):
        ledger({"label": "a", "of": of(), "below": 6.0, **rule})


def test_a_result_that_one_of_the_records_lacks_is_refused(ledger, train):
    train("x", 0, [1.0])
    record({"structure": "x", "scale": "desk", "seed": 1}, {"validation_error": [1.0]})
    with pytest.raises(ValueError, match="not every record of deployed with .* has 'error'"):
        ledger(over("x"))


@pytest.fixture
def opened(monkeypatch):
    """How often each file was read since."""
    count = Counter()
    read_text = Path.read_text

    def counting(path, *args, **kwargs):
        count[path] += 1
        return read_text(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", counting)
    return count


def test_each_record_is_opened_once_however_many_claims_and_chapters_ask_for_it(ledger, train, opened):
    for seed in range(3):
        train("x", seed, [float(seed)])
    others = [{"label": name, "of": of(name), "below": 6.0} for name in ("b", "a")]
    pieces = [over("x"), *others]
    for _ in range(2):
        ledger(*pieces)
        records.read("deployed")
    paths = list(records.RESULTS.glob("*/*.json"))
    assert len(paths) == 6 and [opened[path] for path in paths] == [1] * 6
    structure("a", error=[1.0, 2.0])
    assert ledger(pieces[2]).measured[0].n == 2
    assert sorted(opened[path] for path in paths) == [1] * 5 + [2]


@pytest.fixture(scope="module")
def ledgers():
    """Every claim of every ledger of the book, measured once."""
    return {paper: claims.load(paper) for paper in claims.papers()}


def test_every_ledger_reads_its_records_and_none_is_stale(ledgers):
    verdicts = {claim.id: claim.verdict for found in ledgers.values() for claim in found}
    assert verdicts and [name for name, verdict in verdicts.items() if verdict == "stale records"] == []


def test_the_summary_has_every_claim_and_opens_no_record_twice(ledgers, opened):
    table = claims.summary()
    assert table.id.tolist() == [claim.id for found in ledgers.values() for claim in found]
    assert table.id.is_unique and set(table.paper) == set(claims.papers())
    assert not [path for path in opened if path.is_relative_to(records.RESULTS)]
