"""How many resamples turn a verdict: checked where the answer is known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from companion import resamples
from companion.claims import Claim, Estimate, Evidence, evidence, intervals, turned, verdicts

READING = {"experiment": "chip_spread", "given": {"scale": "desk"}, "value": "accuracy"}
ENTRY = {
    "id": "one", "statement": "a gain", "where": "here", "provenance": "ours", "measure": "the gain",
    "scale": "desk", "unit": "points",
}  # fmt: skip


def claim(monkeypatch, values, images=0, **rule):
    """A claim on these values, which share images that are right or wrong at random."""
    values = np.asarray(values, dtype=float)
    right = None
    if images:
        wave = 40 * np.sign(np.random.default_rng(0).standard_normal(images))
        right = (values[:, None] + wave - wave.mean()).astype(np.float32)
    sample = intervals.Sample(values, right)
    piece = Evidence(**{"label": "gain", "judges": "direction", "of": READING, "above": 0.0, **rule})
    monkeypatch.setattr(evidence, "samples_of", lambda *_: (sample,))
    low, high = intervals.of_mean(sample)
    status = evidence.judged(piece, len(values), low, high)
    measured = Estimate(float(values.mean()), low, high, len(values), status, images, ("0" * 16,))
    return Claim(**ENTRY, evidence=(piece,), measured=(measured,), paper="one")


def test_no_resample_turns_what_is_far_from_its_limit(monkeypatch):
    assert resamples.turned_share(claim(monkeypatch, 50 + np.arange(10.0))) == 0


def test_half_of_them_turn_what_stands_at_its_limit(monkeypatch):
    values = np.linspace(-1, 1, 20)
    _, high = intervals.of_mean(intervals.Sample(values))
    near = claim(monkeypatch, values + high + 1e-6)
    assert near.leaning == "reproduced" and 0.35 < resamples.turned_share(near) < 0.65


def test_images_turn_what_chips_alone_would_not(monkeypatch):
    values = 2 + 0.01 * np.arange(10.0)
    assert resamples.turned_share(claim(monkeypatch, values)) == 0
    assert resamples.turned_share(claim(monkeypatch, values, images=200)) > 0.02


def test_few_trainings_stay_open_in_every_resample(monkeypatch):
    few = claim(monkeypatch, [50.0, 51.0], needs=5, why="so that it stays open")
    assert few.leaning == "undecided" and resamples.turned_share(few) == 0


def test_a_verdict_that_more_than_a_tenth_turn_is_undecided_and_says_where_it_leans(monkeypatch):
    whole = claim(monkeypatch, 50 + np.arange(10.0))
    for share, verdict in (
        (0.0, "reproduced"),
        (0.1, "reproduced"),
        (0.11, "undecided"),
        (None, "reproduced"),
    ):
        one = Claim(**{**vars(whole), "turned": share})
        assert (one.verdict, one.leaning) == (verdict, "reproduced")


def test_a_share_is_known_for_the_rule_and_the_records_that_it_was_found_for(monkeypatch, tmp_path):
    whole = claim(monkeypatch, 50 + np.arange(10.0))
    monkeypatch.setattr(turned, "FILE", tmp_path / "turned.json")
    assert turned.share(whole, whole.measured) is None
    kept = {"one": {"digest": turned.digest(whole, whole.measured), "turned": 0.25}}
    turned.FILE.write_text(json.dumps(kept), encoding="utf-8")
    assert turned.share(whole, whole.measured) == 0.25
    stricter = Claim(**{**vars(whole), "evidence": (Evidence(**{**vars(whole.evidence[0]), "margin": 1.0}),)})
    other = (Estimate(**{**vars(whole.measured[0]), "made": ("1" * 16,)}),)
    assert turned.share(stricter, whole.measured) is turned.share(whole, other) is None


@pytest.fixture(scope="module")
def ledger():
    return [one for paper in verdicts.ledger.papers() for one in verdicts.load(paper)]


def test_the_share_of_every_verdict_is_known_and_none_above_a_tenth_goes_without_undecided(ledger):
    unknown = [one.id for one in ledger if one.turned is None]
    assert not unknown, f"{unknown}: make resamples"
    assert all(one.verdict == "undecided" for one in ledger if one.turned > 0.1)


def test_the_committed_shares_are_those_of_the_records(ledger):
    for one in ledger:
        assert round(resamples.turned_share(one), 3) == one.turned, one.id
