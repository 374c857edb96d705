"""Two states of the code side by side: what do both make of the same parameters, at sizes of a second a run?

A recheck at full size can afford a sample; here every stale record's parameters are tried, cut down to the
sizes in :data:`SMALL`, by the code that made the records, in a checkout of a commit, and by the
present one, on the same machine. Results are kept in ``_build/twins`` by the digest of the code that made
them, so that a comparison that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from companion import records

FOLDER = records.ROOT / "_build" / "twins"
PACKAGES = ("companion", "cimlib")  # where the experiments are, now and before there was a companion
#: The largest numbers of an experiment's parameters with which a run takes about a second. Images are more
#: than a forward pass of a reading takes.
SMALL: dict[str, dict[str, Any]] = {
    "agreement": {"seeds": 1, "flowers": 2},
    "chip_spread": {"hidden": 16, "epochs": 1, "n_train": 200, "images": 60, "chips": 2, "seed": 1},
    "counted": {"classes": 10, "side": 16},
    "deployed": {"epochs": 20, "seeds": 3, "chips": 3},
    "drifted": {
        "hidden": 16,
        "width": 1 / 16,
        "epochs": 2,
        "n_train": 300,
        "noise_epochs": 1,
        "samples": 40,
        "calibration_epochs": 2,
        "instances": 2,
        "images": 60,
        "chips": 2,
        "seed": 1,
        "other_chip": 1,
    },
    "imperfections": {
        "hidden": 16,
        "width": 1 / 16,
        "epochs": 2,
        "n_train": 300,
        "retrain_epochs": 2,
        "n_retrain": 128,
        "iterations": 3,
        "images": 60,
        "chips": 2,
        "seed": 1,
    },
    "in_array": {"epochs": 10, "seeds": 3},
    "negative_feedback": {
        "width": 1 / 16,
        "epochs": 1,
        "n_train": 64,
        "batch": 16,
        "images": 40,
        "chips": 2,
        "seed": 1,
        "device": "cpu",
    },
    "offsets": {"epochs": 1, "update_epochs": 1, "n_train": 400, "n_update": 200, "images": 260, "chips": 2},
    "offsets_iris": {"epochs": 20, "update_epochs": 5, "seeds": 4},
    "where_to_train": {"epochs": 1, "hidden": 8, "chips": 2},
}
RUNNER = """
import json, os, sys
from importlib import import_module
import torch
torch.set_num_threads(1)
package, experiment, folder = sys.argv[1:]
experiments, records = (import_module(f"{package}.{name}") for name in ("experiments", "records"))
sidecars = getattr(records, "sidecars", None)
folder = os.path.join(folder, records.code_digest(experiment))
os.makedirs(folder, exist_ok=True)
for line in sys.stdin:
    name, params = json.loads(line)
    path = os.path.join(folder, f"{name}.json")
    if os.path.exists(path):
        continue
    if hasattr(experiments, "run_with_images"):
        result, right = experiments.run_with_images(experiment, params)
        result["images"] = {name: sidecars.digest(each) for name, each in right.items()}
    else:
        result = experiments.run(experiment, params)
    partial = f"{path}.{os.getpid()}.partial" # the other side runs it too where the code is the same
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(result, file)
    os.replace(partial, path)
print(os.path.basename(folder))
"""


def small(experiment: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """``params`` with no number above its size in :data:`SMALL`, and what they say of a device the CPU."""
    sizes = SMALL[experiment]
    return {name: min(value, sizes[name]) if name in sizes else value for name, value in params.items()}


def compare(experiment: str, older: Sequence[Mapping[str, Any]], commit: str) -> int:
    """Run the parameters of records ``older``, small, by the code of ``commit`` and by the present one.

    Returns how many runs were compared. Raises ``ValueError`` if ``commit`` does not hold the code that made
    them, or if any number differs, times excepted.
    """
    cut = [small(experiment, record["params"]) for record in older]
    runs = {_name(params): params for params in cut}
    lines = "".join(json.dumps([name, params]) + "\n" for name, params in runs.items())
    with _checkout(commit) as tree:
        both = [_started(folder, experiment, lines) for folder in (tree, records.ROOT)]
        theirs, ours = (_finished(process) for process in both)
    made = {record["digest"] for record in older}
    if made != {theirs}:
        raise ValueError(f"commit = {commit!r} holds code {theirs} of {experiment}, and not {sorted(made)}")
    differ = [name for name in runs if not agree(_read(theirs, name), _read(ours, name))]
    if differ:
        raise ValueError(
            f"{experiment}: {len(differ)} of {len(runs)} small runs differ: {runs[differ[0]]}, ..."
        )
    return len(runs)


def code(experiment: str, commit: str) -> str:
    """The digest of the experiment's code at ``commit``."""
    with _checkout(commit) as tree:
        return _finished(_started(tree, experiment, ""))


def _name(params: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def _checkout(commit: str) -> Iterator[Path]:
    """The tree as it was at ``commit``."""

    def git(*command: str) -> None:
        subprocess.run(
            ["git", "-C", str(records.ROOT), "worktree", *command], check=True, capture_output=True
        )

    with TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        git("add", "--detach", str(tree), commit)
        try:
            yield tree
        finally:
            git("remove", "--force", str(tree))


def _started(tree: Path, experiment: str, lines: str) -> subprocess.Popen[str]:
    """A process that runs ``lines`` by the code in ``tree``."""
    package = next(name for name in PACKAGES if (tree / name / "experiments").is_dir())
    command = [sys.executable, "-c", RUNNER, package, experiment, str(FOLDER)]
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    with TemporaryDirectory() as folder:
        source = Path(folder, "runs")
        source.write_text(lines, encoding="utf-8")
        with source.open(encoding="utf-8") as given:
            return subprocess.Popen(
                command, cwd=tree, env=environment, stdin=given, stdout=subprocess.PIPE, encoding="utf-8"
            )


def _finished(process: subprocess.Popen[str]) -> str:
    """The digest of the code that ``process`` has run."""
    told, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the runs stopped with exit code {process.returncode}: see above")
    return told.strip()


def _read(digest: str, name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((FOLDER / digest / f"{name}.json").read_text(encoding="utf-8"))
    return result


def agree(older: Mapping[str, Any], present: Mapping[str, Any]) -> bool:
    """Whether all results of ``older`` are those of ``present``, times excepted, which may have more. Under
    ``"images"`` stand digests of which images accuracies are right about, where they were kept."""
    timeless = [name for name in older if not name.endswith("_seconds") and name != "images"]
    same = all(name in present and present[name] == older[name] for name in timeless)
    kept, now = older.get("images", {}), present.get("images", {})
    return same and all(now.get(name) == digest for name, digest in kept.items())
