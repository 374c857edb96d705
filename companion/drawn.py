"""Which data a notebook draws, besides the code that it stands on (:mod:`companion.sources`).

Only the standard library is used, so that the build can ask at every start.
"""

from __future__ import annotations

from pathlib import Path

from companion import sources

IMAGES = "cimlib.datasets.loading"


def data_of(path: str | Path) -> list[Path]:
    """Data that the notebook at ``path`` draws, sorted: files, and folders that stand for the files in them.

    Records of the experiments that it reaches, the ledgers of claims, data sets, and numbers of papers'
    figures. Raises ``ValueError`` as :func:`~companion.sources.notebook_sources` does.
    """
    reached, data = sources.notebook_sources(path), sources.ROOT / "data"
    experiments = sources.file_of(sources.BY_NAME).parent
    results = [data / "results" / each.stem for each in reached if each.parent == experiments]
    found = [data / "results", *filter(Path.is_dir, results), *data.glob("reported/*.csv")]
    if sources.file_of(sources.LEDGER) in reached:
        found += [data / "claims", *data.glob("claims/*.yml")]
    if sources.file_of(IMAGES) in reached:
        found += [*data.glob("*.npz"), sources.file_of(IMAGES).with_name("splits.json")]
    return sorted(found)
