"""Right or wrong for each image, beside a record; and which records claims rest on."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from companion import experiments, records, sidecars, sweeps

TINY = {
    "imperfections": {
        "chips": 2,
        "n_train": 60,
        "n_retrain": 60,
        "epochs": 1,
        "retrain_epochs": 1,
        "images": 30,
    },
    "drifted": {"chips": 2, "n_train": 60, "epochs": 1, "images": 30, "calibration_epochs": 1},
    "offsets": {"chips": 2, "n_train": 60, "n_update": 60, "epochs": 1, "update_epochs": 1, "images": 30},
    "chip_spread": {"chips": 2, "n_train": 60, "epochs": 1, "images": 30},
    "where_to_train": {"chips": 2, "epochs": 1},
    "negative_feedback": {"chips": 2, "n_train": 32, "epochs": 1, "images": 30, "width": 1 / 16},
}


@given(arrays(bool, st.tuples(st.integers(1, 5), st.integers(1, 40))))
@settings(max_examples=30, deadline=None)
def test_what_is_read_is_what_was_written(tmp_path_factory, right):
    record = tmp_path_factory.mktemp("beside") / "0123456789abcdef.json"
    kept = sidecars.write(record, {"accuracy": right, "clean": right[:1]})
    assert np.array_equal(sidecars.read(record, "accuracy", kept["accuracy"]), right)
    assert np.array_equal(sidecars.read(record, "clean", kept["clean"]), right[:1])
    assert list(record.parent.iterdir()) == [sidecars.beside(record)]


def test_a_file_of_other_images_a_damaged_one_and_none_are_refused(tmp_path):
    record, right = tmp_path / "0123456789abcdef.json", np.arange(20).reshape(2, 10) % 3 == 0
    kept = sidecars.write(record, {"accuracy": right})
    sidecars.write(record, {"accuracy": ~right})
    with pytest.raises(ValueError, match=r"0123456789abcdef\.npz does not belong to its record"):
        sidecars.read(record, "accuracy", kept["accuracy"])
    whole = sidecars.beside(record).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 255
    for damaged in (b"not a file of arrays", b"", whole[: len(whole) // 2], bytes(flipped)):
        sidecars.beside(record).write_bytes(damaged)
        with pytest.raises(ValueError, match=r"0123456789abcdef\.npz"):
            sidecars.read(record, "accuracy", kept["accuracy"])
    sidecars.beside(record).unlink()
    with pytest.raises(ValueError, match="cannot be read.*git restore"):
        sidecars.read(record, "accuracy", kept["accuracy"])


@pytest.mark.parametrize("experiment", TINY)
def test_the_share_of_right_images_is_the_accuracy_and_plain_results_hold_no_images(experiment):
    result, right = experiments.run_with_images(experiment, TINY[experiment])
    for name, each in right.items():
        assert 100 * each.mean(1) == pytest.approx(result[name], abs=2e-3), name
    assert "right" not in result and {len(each.T) for each in right.values()} in ({30}, {360})
    json.dumps(result)


def test_a_record_names_its_images_and_a_table_finds_them(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    params = experiments.resolve("chip_spread", TINY["chip_spread"])
    path = records.run(records.Point("chip_spread", params, 1, 1.0))
    (row,) = (row for _, row in records.read("chip_spread").iterrows())
    assert records.right(row, "accuracy").shape == (2, 30)
    assert set(records.load(path)["right"]) == {"accuracy", "redrawn"}
    with pytest.raises(ValueError, match=r"'ekl' is not allowed; allowed: \['accuracy', 'redrawn'\]"):
        records.right(row, "ekl")


@pytest.mark.parametrize("sweep", sorted(sweeps.SWEEPS.glob("*.yml")), ids=lambda path: path.stem)
def test_every_point_that_a_ledger_reads_is_evidence(sweep):
    wanted = sweeps.evidence(sweep.stem)
    asked = [asdict(point.params) for point in sweeps.points(sweep)]
    for reading in sweeps._readings(sweep.stem):
        assert any({**wanted, **reading}.items() <= params.items() for params in asked), reading


def test_what_a_claim_rests_on_is_run_once_more_unless_a_point_has_values_of_its_own(tmp_path, monkeypatch):
    claim = {"scale": "desk", "seed": 0, "sigma": 0.1}
    monkeypatch.setattr(sweeps, "_readings", lambda _: [claim])
    sweep = {
        "experiment": "chip_spread", "threads": 1, "minutes": 1.0, "defaults": {"scale": "desk"},
        "evidence": {"images": 10_000},
        "points": [{"sigma": [0.1, 0.2]}, {"sigma": 0.1, "images": 500}],
    }  # fmt: skip
    path = tmp_path / "chip_spread.yml"
    path.write_text(json.dumps(sweep), encoding="utf-8")
    found = {(point.params.sigma, point.params.images) for point in sweeps.points(path)}
    assert found == {(0.1, 1000), (0.1, 10_000), (0.2, 1000), (0.1, 500)}


def test_every_chip_is_shown_images_of_its_own_ten_of_which_are_the_first_of_a_hundred():
    params = experiments.resolve("drifted", {"own_images": True})
    few, many, other = (params.task.shown(chip).images(n)[0] for chip, n in ((3, 10), (3, 100), (4, 10)))
    assert np.array_equal(few, many[:10]) and not np.array_equal(few, other)
    assert len(params.task.shown(3).images()[0]) == params.n_train
