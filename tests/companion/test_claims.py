"""A verdict must follow from the records and from nothing else."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from companion import claims, records
from companion.claims import reported

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
        return written([{**ENTRY, "evidence": [sized(piece) for piece in evidence], **change}])[0]

    return write


def sized(piece):
    """The piece as one that judges a size, if it does not say, in a band that is open to one side."""
    if "judges" in piece or not piece.keys() & {"above", "below"}:
        return {"judges": "size", **piece}
    return {"judges": "size", "above": -1e12, "below": 1e12, **piece}


def sign(structure="a", against="b", **rule):
    """A piece that judges a direction."""
    other = {"against": {"given": {"structure": against}}} if against else {}
    rule = rule if rule.keys() & {"above", "below"} else {"below": 0.0, **rule}
    return {"label": f"{structure} - {against}", "judges": "direction", "of": of(structure), **other, **rule}


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
    assert "same: 2.0 points, the same for all n = 50" in claims.cards([claim])


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
    assert "the largest of n = 50" in claims.cards([claim])


@pytest.mark.parametrize(
    ("bounds", "verdict"),
    [
        ((6.0, 6.0), "reproduced"),
        ((6.0, 4.0), "partly"),
        ((6.0, 4.0, 5.0), "partly"),
        ((4.0, 4.0), "not reproduced"),
        ((5.0, 4.0), "not reproduced"),
        ((5.0, 5.0), "undecided"),
        ((5.0, 6.0), "holds where decided"),
    ],
)
def test_the_verdict_follows_from_all_the_evidence(ledger, bounds, verdict):
    claim = ledger(*({"label": "a", "of": of(), "below": bound} for bound in bounds))
    assert claim.verdict == verdict


def test_a_reason_in_place_of_evidence_is_not_testable_here(ledger):
    assert ledger(reason="the number is not known").verdict == "not testable here"


def test_a_claim_needs_evidence_or_a_reason(ledger):
    with pytest.raises(ValueError, match="claim 'one': evidence or unknown, reason = neither"):
        ledger()
    with pytest.raises(ValueError, match="claim 'one': evidence or unknown, reason = both"):
        ledger({"label": "a", "of": of(), "below": 6.0}, reason="none")


def test_records_of_older_code_decide_nothing(ledger):
    structure("a", digest="0" * 16)
    claim = ledger({"label": "a", "of": of(), "below": 6.0}, {"label": "b", "of": of("b"), "below": 0.0})
    assert [m.status for m in claim.measured] == ["stale", "fails"] and claim.verdict == "stale records"


def test_stragglers_are_counted_and_too_few_trainings_decide_nothing(ledger):
    behind = int((ERRORS["b"] < ERRORS["b"].mean() - 5).sum())
    assert behind > 0
    rule = {"of": of("b"), "statistic": "stragglers", "above": behind - 0.5, "below": behind + 0.5}
    claim = ledger(
        {"label": "enough", **rule, "needs": 50, "why": "so"},
        {"label": "too few", **rule, "needs": 51, "why": "so"},
    )
    assert [(m.estimate, m.status) for m in claim.measured] == [(behind, "holds"), (behind, "open")]
    assert f"enough: {behind}.0 points, of n = 50 (decided from n = 50: so): *holds*" in claims.cards([claim])


def test_a_claim_waits_for_records_that_a_sweep_asks_for_and_for_no_others(ledger):
    here = {"label": "a", "of": of(), "below": 6.0}
    to_come = {"label": "to come", "of": of(), "against": {"given": {"structure": "double"}}, "below": 0.0}
    claim = ledger(here, to_come)
    assert [m.status for m in claim.measured] == ["holds", "missing"] and claim.verdict == "not run yet"
    assert "\nto come: *missing*\n" in claims.cards([claim])
    with pytest.raises(ValueError, match="no record has"):
        ledger(here, {"label": "never", "of": {**of("double"), "given": {"hidden": 999}}, "below": 6.0})


def test_evidence_that_selects_several_records_is_refused(ledger):
    evidence = {"experiment": "deployed", "value": "error", "given": {"scale": "desk"}}
    with pytest.raises(ValueError, match="3 records of deployed"):
        ledger({"label": "a", "of": evidence, "below": 6.0})


def test_values_that_cannot_be_paired_are_refused(ledger):
    structure("b", error=[1.0, 2.0])
    with pytest.raises(ValueError, match="50 seeds from 0 on and 2 seeds"):
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
    read = claims.read(claims.Reading("deployed", {"structure": "x"}, "error", over="seed"))
    assert read.sample.values.tolist() == [2.0, 5.0, 8.0] and read.numbers == (0, 1, 2) and not read.stale
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
    with pytest.raises(ValueError, match="x: no training is in both readings"):
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
    for seed in range(5):
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
    assert "n = 1, without an interval (needs n = 5): *open*" in claims.cards([claim])


def test_an_unknown_paper_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="gao2019ieice"):
        claims.load("nobody2020")


def test_a_card_shows_statement_numbers_and_verdict(ledger):
    text = claims.cards([ledger({"label": "a", "of": of(), "below": 6.0})])
    assert "**a is |small|**" in text and "n = 50 seeds: *holds*" in text and "reproduced (desk)<" in text


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
        ({"bellow": 6.0}, ["evidence.1.key = 'bellow'", "above, below, margin"]),
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
        ({"of": {**of(), "given": {"structure": ["a"]}}}, ["given: structure = ['a']", "a str"]),
        ({"of": {**of(), "given": {"structure": {"a": 1}}}}, ["given: structure = {'a': 1}", "a str"]),
        (
            {"of": {**of(), "given": "b"}, "against": {"given": {}}},
            ["evidence.1.of.given = 'b'", "a mapping"],
        ),
        ({"of": {**of(), "given": None}, "against": {}}, ["evidence.1.of.given = None", "a mapping"]),
        ({"of": {**of(), "given": {1: "a"}}}, ["given = '1'", "structure"]),
        ({"of": {**of(), "given": {"structure": "doubel"}}}, ["given: structure = 'doubel'", "'double'"]),
        ({"of": {**of(), "given": {"hidden": 2.5}}}, ["given: hidden = 2.5", "an int"]),
        ({"label": " "}, ["evidence.1.label = ' '", "a text that says something"]),
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
        claims.Evidence("a", "size", claims.Reading(**of()), **limits)
    assert claims.Evidence("a", "size", claims.Reading(**of()), above=-np.inf, below=6.0).below == 6.0
    with pytest.raises(ValueError, match="claim 'one': evidence.1.above, below = neither"):
        ledger({"label": "a", "of": of()})


def test_a_limit_is_a_number():
    for limits in [{"above": np.nan, "below": 1.0}, {"above": 1.0, "below": np.nan}]:
        with pytest.raises(ValueError, match="above = .* is not allowed; allowed: < below"):
            claims.Evidence("a", "size", claims.Reading(**of()), **limits)


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
        ValueError, match=r"claim 'one': .*value = 'error' is not allowed.*a list of finite numbers"
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


# --- rules that judge -------------------------------------------------------------------------------

HOLDS, FAILS, OPEN = ({"label": "a", "of": of(), "below": bound} for bound in (6.0, 4.0, 5.0))
SIGN_HOLDS, SIGN_FAILS, SIGN_OPEN = sign("a", "b"), sign("b", "a"), sign("a", None, above=5.0, margin=5.0)


@pytest.mark.parametrize(
    ("pieces", "verdict", "direction", "size"),
    [
        ([SIGN_HOLDS, HOLDS], "reproduced", "holds", "holds"),
        ([SIGN_HOLDS, FAILS], "direction only", "holds", "fails"),
        ([SIGN_HOLDS, FAILS, FAILS], "direction only", "holds", "fails"),
        ([SIGN_HOLDS, HOLDS, FAILS], "partly", "holds", "partly"),
        ([SIGN_HOLDS, SIGN_OPEN, FAILS], "partly", "holds where decided", "fails"),
        ([SIGN_HOLDS, OPEN], "holds where decided", "holds", "open"),
        ([SIGN_HOLDS, SIGN_OPEN], "holds where decided", "holds where decided", "none"),
        ([SIGN_FAILS, HOLDS], "partly", "fails", "holds"),
        ([SIGN_FAILS, FAILS], "not reproduced", "fails", "fails"),
        ([SIGN_OPEN, FAILS], "not reproduced", "open", "fails"),
        ([SIGN_OPEN, OPEN], "undecided", "open", "open"),
        ([HOLDS], "reproduced", "none", "holds"),
    ],
)
def test_direction_and_size_are_judged_apart(ledger, pieces, verdict, direction, size):
    claim = ledger(*pieces)
    assert (claim.verdict, claim.direction, claim.size) == (verdict, direction, size)
    both = f'direction: {direction}</span> <span class="chip">size: {size}</span>'
    assert (both in claims.cards([claim])) == ("none" not in (direction, size))


@pytest.mark.parametrize(
    ("rule", "words", "said"),
    [
        ({"above": 4.0}, None, "evidence.1: above = 4 is not allowed; allowed: above and below, a size is a"),
        ({"below": 6.0}, None, "evidence.1: below = 6 is not allowed; allowed: above and below"),
        ({"below": 6.0}, "at least", "evidence.1: below = 6 is not allowed; allowed: above, as words ="),
        ({"above": 4.0}, "at most", "evidence.1: above = 4 is not allowed; allowed: below, as words ="),
        ({"above": 4.0, "below": 6.0}, "at most", "evidence.1: above = 4 and below = 6 is not allowed"),
    ],
)
def test_a_size_is_a_band_unless_the_paper_names_one_end(ledger, rule, words, said):
    piece = {"label": "a", "judges": "size", "of": of(), **rule}
    with pytest.raises(ValueError, match=r"paper\.yml: claim 'one': ") as error:
        ledger(piece, **({"words": words} if words else {}))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"above": 4.0, "below": 6.0}, None),
        ({"above": 4.0}, "at least"),
        ({"below": 6.0}, "at most"),
    ],
)
def test_the_limits_that_the_words_ask_for_are_allowed(ledger, rule, words):
    piece = {"label": "a", "judges": "size", "of": of(), **rule}
    claim = ledger(piece, sign(), **({"words": words} if words else {}))
    assert claim.verdict == "reproduced"  # words say nothing of the piece that judges a direction


def test_a_number_far_beyond_a_band_is_no_reproduction(ledger):
    near = {"label": "a", "judges": "size", "of": of(), "above": 4.0, "below": 6.0}
    far = {**near, "above": 1.0, "below": 3.0}
    assert (ledger(near).verdict, ledger(far).verdict) == ("reproduced", "not reproduced")


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"below": 1.0}, "evidence.1.below = 1 is not allowed; allowed: 0, as a direction is judged"),
        ({"above": 2.0, "margin": 1.0}, "evidence.1.above = 2 is not allowed; allowed: -1 or 0 or 1, as"),
        (
            {"above": 0.0, "compare": "ratio"},
            "evidence.1.above = 0 is not allowed; allowed: 1, as a direction is judged",
        ),
        ({"below": 0.0, "margin": -1.0}, "evidence.1.margin = -1.0 is not allowed; allowed: ≥ 0"),
        ({"judges": "both"}, "evidence.1.judges = 'both' is not allowed; allowed: 'direction' or 'size'"),
        ({"judges": "size", "margin": 1.0}, "evidence.1.margin = 1 is not allowed; allowed: 0, as a size"),
        ({"settled": "by guess"}, "evidence.1.settled = 'by guess' is not allowed; allowed: 'measured' or"),
    ],
)
def test_a_direction_asks_for_a_sign_or_a_stated_margin(ledger, rule, said):
    with pytest.raises(ValueError, match=r"paper\.yml: claim 'one': ") as error:
        ledger(sign(**rule))
    assert said in str(error.value)


def test_a_piece_says_what_it_judges(written):
    piece = {"label": "a", "of": of(), "below": 6.0}
    with pytest.raises(ValueError, match=r"claim 'one': evidence\.1\.judges is missing"):
        written([{**ENTRY, "evidence": [piece]}])


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ({"below": 1.0, "margin": 1.0}, True),
        ({"above": -1.0, "below": 1.0, "margin": 1.0}, False),
        ({"above": -1.0, "margin": 1.0}, False),
    ],
)
def test_a_margin_is_how_far_from_no_difference_is_still_none(ledger, rule, holds):
    assert (ledger(sign(**rule)).verdict == "reproduced") == holds


def test_what_is_counted_is_by_arithmetic_and_not_reproduced(ledger):
    same = {"label": "same", "of": of("same"), "settled": "by arithmetic"}
    gives, not_so = {**same, "above": 4.9, "below": 5.1}, {**same, "above": 5.1, "below": 5.2}
    assert [ledger(*pieces).verdict for pieces in ([gives], [not_so], [gives, not_so])] == [
        "by arithmetic",
        "not by arithmetic",
        "partly",
    ]
    assert "same: 5.0 points, by arithmetic: *holds*" in claims.cards([ledger(gives)])
    assert ledger(gives, sign("same", "b", settled="by arithmetic")).verdict == "by arithmetic"


def test_beside_a_measurement_arithmetic_decides_only_if_it_fails(ledger):
    same = {"label": "same", "of": of("same"), "settled": "by arithmetic"}
    gives, not_so = {**same, "above": 4.9, "below": 5.1}, {**same, "above": 5.1, "below": 5.2}
    assert [ledger(gives, other).verdict for other in (HOLDS, FAILS, OPEN)] == [
        "reproduced",
        "not reproduced",
        "undecided",
    ]
    assert ledger(not_so, HOLDS).verdict == "partly"


@pytest.mark.parametrize("trainings", [4, 5])
def test_fewer_than_five_trainings_decide_nothing(ledger, train, trainings):
    for seed in range(trainings):
        train("x", seed, [5.0 + seed / 10])
    claim = ledger(over("x", above=4.0, below=6.0))
    assert claim.measured[0].low > 4.0 and claim.measured[0].high < 6.0
    assert claim.verdict == ("reproduced" if trainings == 5 else "undecided")
    assert ("(needs n = 5)" in claims.cards([claim])) == (trainings == 4)


def test_trainings_on_the_other_side_of_a_comparison_count_as_trainings(ledger, train):
    for seed in range(4):
        train("x", seed, [5.0 + seed / 10])
    piece = {"label": "a - x", "of": of(value="digital"), "above": -2.0, "below": 0.0}
    claim = ledger({**piece, "against": {"value": "error", "over": "seed", "given": {"structure": "x"}}})
    assert (claim.measured[0].n, claim.measured[0].status) == (4, "open")


def test_another_number_of_trainings_has_a_reason_that_readers_see(ledger, train):
    for seed in range(3):
        train("x", seed, [5.0 + seed / 10])
    rule = over("x", above=4.0, below=6.0)
    claim = ledger({**rule, "needs": 3, "why": "the paper trains three"})
    assert claim.verdict == "reproduced"
    assert "(decided from n = 3: the paper trains three): *holds*" in claims.cards([claim])
    with pytest.raises(ValueError, match="evidence.1.why = '' is not allowed; allowed: the reason for needs"):
        ledger({**rule, "needs": 3})
    with pytest.raises(ValueError, match="evidence.1.why = 'so' is not allowed; allowed: none, as needs"):
        ledger({**rule, "why": "so"})


@pytest.mark.parametrize(
    ("pieces", "verdict"),
    [
        ([FAILS, HOLDS], "reproduced"),
        ([OPEN, HOLDS, FAILS], "reproduced"),
        ([FAILS, OPEN], "undecided"),
        ([FAILS, FAILS], "not reproduced"),
        ([SIGN_FAILS, SIGN_HOLDS, FAILS, FAILS], "direction only"),
        ([SIGN_FAILS, SIGN_HOLDS, FAILS, OPEN], "holds where decided"),
        ([SIGN_FAILS, SIGN_HOLDS, FAILS, HOLDS], "reproduced"),
        ([SIGN_FAILS, HOLDS], "partly"),
    ],
)
def test_of_a_family_one_member_is_enough(ledger, pieces, verdict):
    claim = ledger(*pieces, quantifier="any", family="networks that were run")
    assert claim.verdict == verdict
    size = sum(piece.get("judges") != "direction" for piece in pieces)
    of = [f"{len(pieces) - size} judge the direction"] * (size < len(pieces)) + [f"{size} judge the size"]
    kinds = " of each kind" if len(of) > 1 else ""
    said = f"One piece that holds is enough{kinds}: {', '.join(of)} (networks that were run)."
    assert said in claims.cards([claim])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"quantifier": "any"}, "family = '' is not allowed; allowed: the members, in words"),
        ({"family": "networks"}, "family = 'networks' is not allowed; allowed: '', as each piece"),
        ({"quantifier": "some"}, "quantifier = 'some' is not allowed; allowed: 'all' or 'any'"),
        ({"words": "up to"}, "words = 'up to' is not allowed; allowed: 'at least' or 'at most'"),
        ({"seen": "yes"}, "seen = 'yes' is not allowed; allowed: a bool"),
        ({"unknown": 3}, "unknown = 3 is not allowed; allowed: a str"),
        ({"unknown": "what", "reason": "so"}, "evidence or unknown, reason = both is not allowed"),
    ],
)
def test_a_wrong_rule_of_an_entry_is_refused(ledger, change, said):
    with pytest.raises(ValueError, match=r"paper\.yml: claim 'one': ") as error:
        ledger(HOLDS, **change)
    assert said in str(error.value)


@pytest.mark.parametrize("pieces", [[HOLDS], [FAILS], [SIGN_HOLDS, FAILS], []])
def test_what_is_not_known_leaves_a_claim_undecided_whatever_was_measured(ledger, pieces):
    claim = ledger(*pieces, unknown="what is stored")
    assert claim.verdict == "undecided" and {claim.direction, claim.size} <= {"open", "none"}
    text = claims.cards([claim])
    assert "Not known: what is stored" in text and text.count('class="piece"') == len(pieces)


def test_records_of_older_code_and_missing_ones_come_before_what_is_not_known(ledger):
    to_come = {"label": "to come", "of": of(), "against": {"given": {"structure": "double"}}, "below": 0.0}
    assert ledger(to_come, unknown="what").verdict == "not run yet"
    structure("a", digest="0" * 16)
    assert ledger(HOLDS, unknown="what").verdict == "stale records"


def test_a_rule_written_after_its_records_were_seen_bears_a_mark(ledger):
    marked, plain = (claims.cards([ledger(HOLDS, seen=seen)]) for seen in (True, False))
    assert ">†</abbr>" in marked and "† The rule was written after its records had been seen." in marked
    assert "†" not in plain


@pytest.fixture
def told(tmp_path, monkeypatch):
    """A paper's own numbers: a is 5 and 9, b is 8."""
    table = "structure,sigma,value\na,1,5.0\na,2,9.0\nb,1,8.0\n"
    (tmp_path / "told.csv").write_text(table, encoding="utf-8")
    monkeypatch.setattr(reported, "REPORTED", tmp_path)
    reported._table.cache_clear()
    yield
    reported._table.cache_clear()


def own(sigma, against="b"):
    row = {"file": "told", "of": {"structure": "a", "sigma": sigma}}
    return {**row, "against": {"structure": against, "sigma": 1}} if against else row


@pytest.mark.usefixtures("told")
def test_a_rule_that_the_paper_itself_fails_is_refused(ledger):
    assert ledger(sign(reported=own(1))).verdict == "reproduced"
    with pytest.raises(ValueError, match="claim 'one': evidence.2.reported = 1 is not allowed") as error:
        ledger(sign(reported=own(1)), sign(reported=own(2)))
    assert "allowed: what the rule holds for, above -inf and below 0" in str(error.value)
    ratio = {"compare": "ratio", "below": 1.0}
    assert ledger(sign(reported=own(1), **ratio)).verdict == "reproduced"
    with pytest.raises(ValueError, match="evidence.1.reported = 1.125 is not allowed"):
        ledger(sign(reported=own(2), **ratio))
    alone = {"label": "a", "judges": "size", "of": of(), "above": 4.0, "below": 6.0}
    assert ledger({**alone, "reported": own(1, None)}).verdict == "reproduced"
    with pytest.raises(ValueError, match="evidence.1.reported = 9 is not allowed"):
        ledger({**alone, "reported": own(2, None)})


@pytest.mark.usefixtures("told")
def test_of_a_family_the_paper_needs_one_member_of_each_kind(ledger):
    family = {"quantifier": "any", "family": "both"}
    assert ledger(sign(reported=own(1)), sign(reported=own(2)), **family).verdict == "reproduced"
    with pytest.raises(ValueError, match="evidence.1.reported = 1 is not allowed"):
        ledger(sign(reported=own(2)), **family)
    size = {"label": "a", "judges": "size", "of": of(), "above": 4.0, "below": 6.0, "reported": own(2, None)}
    with pytest.raises(ValueError, match="evidence.2.reported = 9 is not allowed"):
        ledger(sign(reported=own(1)), size, **family)


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"file": "heard"}, "reported.file = 'heard' is not allowed; allowed: told"),
        ({"of": {"structure": "c"}}, "reported: no row of told has"),
        ({"of": {"structure": "a"}}, "is not allowed; allowed: one row of told, not 2"),
        ({"of": {"letter": "a"}}, "are not columns; allowed: ['sigma', 'structure', 'value']"),
        ({"off": {}}, "evidence.1.reported.key = 'off' is not allowed; allowed: file, of, against"),
    ],
)
def test_rows_that_the_paper_does_not_have_are_refused(ledger, change, said):
    with pytest.raises(ValueError, match=r"paper\.yml: claim 'one': ") as error:
        ledger(sign(reported={"file": "told", "of": {"structure": "a", "sigma": 1}, **change}))
    assert said in str(error.value)


def test_pieces_are_counted_by_what_chance_could_do_to_them(ledger):
    found = claims.pieces(
        [
            ledger(SIGN_HOLDS, SIGN_OPEN, sign(below=1.0, margin=1.0), HOLDS, FAILS),
            ledger(
                sign(statistic="max"),
                {**HOLDS, "settled": "by arithmetic"},
                {**HOLDS, "needs": 51, "why": "so"},
            ),
        ]
    )
    assert found == {
        "pieces": 8,
        "arithmetic": 1,
        "few": 1,
        "exact": 1,
        "sign": 2,
        "signs_held": 1,
        "no_worse": 1,
        "size": 2,
    }


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


def test_every_verdict_is_one_that_is_explained(ledgers):
    assert {claim.verdict for found in ledgers.values() for claim in found} <= set(claims.VERDICTS)


def test_what_has_no_interval_because_it_could_not_vary_is_no_measurement(ledgers):
    fixed = [
        (claim.id, piece.label)
        for found in ledgers.values()
        for claim in found
        for piece, m in zip(claim.evidence, claim.measured, strict=True)
        if piece.settled == "measured" and piece.statistic in ("mean", "std") and m.low == m.high
    ]
    assert fixed == []


def test_no_training_decides_with_fewer_than_five_unless_the_ledger_says_why(ledgers):
    few = [
        claim.id
        for found in ledgers.values()
        for claim in found
        for piece, m in zip(claim.evidence, claim.measured, strict=True)
        if piece.of.over and m.n < 5 and m.status in ("holds", "fails") and not piece.why
    ]
    assert few == []


def test_the_rules_on_negative_feedback_hold_for_the_paper_s_own_curves(ledgers):
    named = [
        (claim, piece, reported.number(piece))
        for claim in ledgers["nft2023"]
        for piece in claim.evidence
        if piece.reported
    ]
    assert len(named) > 20
    assert all(p.above < told < p.below for claim, p, told in named if claim.quantifier == "all")
    failed = {(claim.id, piece.label) for claim, piece, told in named if not piece.above < told < piece.below}
    assert failed == {(f"nft-vgg8-mnist-{name}", "σ = 0.25") for name in ("ovf", "irs")}


def test_a_verdict_that_turned_since_version_0_2_says_what_it_was_and_what_turned_it(ledgers):
    earlier = json.loads(Path(__file__).with_name("earlier_verdicts.json").read_text(encoding="utf-8"))
    now = {claim.id: claim for found in ledgers.values() for claim in found}
    assert set(earlier) <= set(now)
    for name, verdict in earlier.items():
        claim = now[name]
        if claim.verdict == verdict:
            assert claim.earlier is None, name
        else:
            assert claim.earlier and claim.earlier.verdict == verdict and len(claim.earlier.why) > 20, name
