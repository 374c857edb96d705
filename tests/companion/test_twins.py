"""Two states of the code are compared number by number, on parameters of every record, cut down."""

import json
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import asdict

import pytest

from companion import experiments, records, twins

SIZES = {"epochs": 20, "seeds": 3, "chips": 3}
PLACE = "cimlib/devices/effects.py"
TERM = "moved = g + self.sigma * (g_max - g_min)"


def older(**given):
    """What a recheck knows of a record made by the present code."""
    params = asdict(experiments.resolve("deployed", {"seeds": 50, "chips": 20, **given}))
    return {"digest": records.code_digest("deployed"), "params": params}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A checkout, which is a copy of the present code, and a folder of its own for the results."""
    copied = tmp_path / "tree"
    for name in ("cimlib", "companion"):
        shutil.copytree(records.ROOT / name, copied / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copied / "data").symlink_to(records.ROOT / "data")

    @contextmanager
    def checkout(commit):
        yield copied

    monkeypatch.setattr(twins, "_checkout", checkout)
    monkeypatch.setattr(twins, "FOLDER", tmp_path / "twins")
    monkeypatch.setitem(twins.SMALL, "deployed", SIZES)
    return copied


def test_equal_code_agrees_and_equal_cut_parameters_are_run_once(tree):
    found = [older(gaussian=0.1), older(gaussian=0.1, seeds=60), older(lognormal=0.1)]
    assert twins.compare("deployed", found, "any") == 2
    (folder,) = twins.FOLDER.iterdir()
    results = [json.loads(path.read_text(encoding="utf-8")) for path in folder.iterdir()]
    assert [len(result["error"]) for result in results] == [3, 3]


def test_a_changed_number_is_seen_and_what_was_run_is_not_run_again(tree):
    path = tree / PLACE
    text = path.read_text(encoding="utf-8")
    assert text.count(TERM) == 1
    path.write_text(text.replace(TERM, TERM.replace("self.sigma", "3 * self.sigma")), encoding="utf-8")
    told = twins._finished(twins._started(tree, "deployed", ""))
    made = {**older(gaussian=0.1), "digest": told}
    with pytest.raises(ValueError, match=r"1 of 1 small runs differ.*'gaussian': 0\.1"):
        twins.compare("deployed", [made], "any")
    before = {path: path.stat().st_mtime_ns for path in twins.FOLDER.glob("*/*.json")}
    assert len(before) == 2
    with pytest.raises(ValueError, match="differ"):
        twins.compare("deployed", [made], "any")
    assert {path: path.stat().st_mtime_ns for path in twins.FOLDER.glob("*/*.json")} == before


def test_a_commit_that_did_not_make_the_records_is_refused(tree):
    with pytest.raises(ValueError, match=r"commit = 'any' holds code \w+ of deployed, and not \['0{16}'\]"):
        twins.compare("deployed", [{**older(), "digest": "0" * 16}], "any")


@pytest.mark.parametrize("experiment", experiments.names())
def test_every_experiment_has_small_sizes_that_are_its_parameters_and_allowed(experiment):
    sizes = twins.SMALL[experiment]
    params = asdict(experiments.resolve(experiment, {"scale": "desk"}))
    assert set(sizes) <= set(params)
    cut = twins.small(experiment, params)
    experiments.resolve(experiment, cut)
    assert all(cut[name] <= size for name, size in sizes.items())
    assert {name for name in params if cut[name] != params[name]} <= set(sizes)


def test_a_checkout_is_the_tree_of_the_commit_and_is_gone_afterwards():
    with twins._checkout("HEAD") as tree:
        assert (tree / "cimlib" / "__init__.py").exists()
    assert not tree.exists()
    listed = ["git", "-C", str(records.ROOT), "worktree", "list"]
    there = subprocess.run(listed, capture_output=True, encoding="utf-8", check=True)
    assert str(tree) not in there.stdout
