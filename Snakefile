"""The map of the companion: sweep point -> record, chapter -> executed notebook, notebooks -> book.

`make help` lists the usual targets; `snakemake --cores 2 sweep` works as well, and
`snakemake --executor slurm --jobs 50 sweep` runs the same sweep on a cluster. The options that
make an interrupted run safe to repeat are in profiles/default/config.yaml.
"""

import os
import runpy
import sys
from collections import namedtuple
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the same arithmetic on any number of cores
os.environ.setdefault("PYTHONUTF8", "1")  # and the same text in any locale
notebook_sources = runpy.run_path("companion/sources.py")["notebook_sources"]

ALL_CORES = workflow.cores or 1
CHAPTERS = sorted(path.stem for path in Path("chapters").glob("*.ipynb"))
CHECKS = ["lint", "compiled", "unit", "book", "browser", *CHAPTERS]
LIBRARY = sorted(path for folder in ("cimlib", "companion") for path in Path(folder).rglob("*.py"))
SETTINGS = ["requirements.txt", "constraints.txt", "pyproject.toml"]
NOTEBOOKS = {"html": "_build/executed/{chapter}.ipynb", "committed": "chapters/{chapter}.ipynb"}
Edition = namedtuple("Edition", "notebooks builder keep")
EDITIONS = {
    "pdf": Edition("_build/vector/{chapter}.ipynb", "singlehtml", "python tools/printed.py _build/stage-pdf/made/intro.html"),
    "epub": Edition("chapters/{chapter}.ipynb", "epub", "cp _build/stage-epub/made/computing-in-memory-reproduced.epub"),
}
PROSE = ["_config.yml", "_toc.yml", "intro.md", "references.bib", "pages", "_extra"]


def files(*patterns):
    return sorted(path for pattern in patterns for path in Path().glob(pattern) if path.is_file())


def folders(*patterns):
    """Folders that count as inputs: one is newer than before when a file in it is added, replaced or removed.

    They stand for the thousands of records in them, which are never written in place: snakemake looks at every
    input once a second as long as a job waits.
    """
    return sorted(path for pattern in patterns for path in Path().glob(pattern) if path.is_dir())


@cache
def reached(chapter):
    """The chapter, the library its imports reach, and the data, records and claims it draws."""
    from companion.drawn import data_of

    notebook = Path("chapters", f"{chapter}.ipynb")
    found = [*notebook_sources(notebook), *data_of(notebook)]
    return [notebook, *(path.relative_to(Path.cwd()) for path in found), *SETTINGS]


@cache
def points():
    """Every point of every sweep, by (sweep, key)."""
    from companion import sweeps as declared

    paths = files("data/sweeps/*.yml")
    return {(path.stem, point.key): point for path in paths for point in declared.points(path)}


def point(wildcards):
    try:
        return points()[wildcards.sweep, wildcards.key]
    except KeyError:
        path = f"data/results/{wildcards.sweep}/{wildcards.key}.json"
        raise ValueError(f"no sweep asks for {path}: delete it") from None


@cache
def all_records():
    """The record of every point; says once what the missing ones will take."""
    paths = {Path("data/results", sweep, f"{key}.json"): p for (sweep, key), p in points().items()}
    again = {str(target) for target in workflow.dag_settings.forcerun}
    due = [p for path, p in paths.items() if str(path) in again or not path.exists()]
    hours = sum(p.minutes * min(p.threads, ALL_CORES) for p in due) / 60 / ALL_CORES
    told = f"{len(due)} of {len(paths)} records to run, about {hours:.2f} h on {ALL_CORES} cores"
    print(told if due else f"all {len(paths)} records are there", file=sys.stderr)
    return list(paths)


wildcard_constraints:
    chapter="|".join(CHAPTERS),
    sweep=r"\w+",
    key=r"\w+",

onerror:
    if "test" in sys.argv:
        failed = [check for check in CHECKS if not Path("_build/checked", check).exists()]
        print("not passed, see above:", *failed, file=sys.stderr)

rule book:
    input: "_build/html/index.html"

rule html:
    input: "_build/committed/index.html"

rule test:
    input: expand("_build/checked/{check}", check=CHECKS)

rule sweep:
    input: lambda wildcards: all_records()

rule record:
    # No input: the key in the name says what was run, so a record that exists is never run again.
    output: update("data/results/{sweep}/{key}.json")
    threads: lambda wildcards: point(wildcards).threads
    resources: runtime=lambda wildcards: 10 + 2 * round(point(wildcards).minutes)
    shell:
        "OMP_NUM_THREADS={threads} python -m companion.sweeps run"
        " data/sweeps/{wildcards.sweep}.yml {wildcards.key}"

rule chapter:
    input: lambda wildcards: reached(wildcards.chapter)
    output: "_build/executed/{chapter}.ipynb"
    threads: ALL_CORES # one at a time: each shows a progress bar; on one thread, as it is compared
    shell:
        "mkdir -p _build/executing &&"
        " OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 papermill --cwd chapters -k python3 {input[0]} _build/executing/{wildcards.chapter}.ipynb &&"
        " mv _build/executing/{wildcards.chapter}.ipynb {output}"

rule render:
    input:
        files(*PROSE, "pages/**/*", "_extra/**/*"), LIBRARY, SETTINGS,
        notebooks=lambda wildcards: expand(NOTEBOOKS[wildcards.which], chapter=CHAPTERS),
    output: "_build/{which,html|committed}/index.html"
    params: stage="_build/stage-{which}"
    shell:
        "echo 'rendering _build/{wildcards.which}' &&"
        " rm -rf {params.stage} && mkdir -p {params.stage}/chapters && cp -r {PROSE} {params.stage} &&"
        " cp {input.notebooks} {params.stage}/chapters &&"
        " jupyter-book build -q -W --keep-going {params.stage} > /dev/null &&"
        " rm -rf _build/{wildcards.which} && mv {params.stage}/_build/html _build/{wildcards.which}"

rule vector_figures:
    input: lambda wildcards: reached(wildcards.chapter)
    output: "_build/vector/{chapter}.ipynb"
    threads: ALL_CORES # as in rule chapter
    shell:
        "mkdir -p _build/executing && FIGURES=vector OMP_NUM_THREADS=1 MKL_NUM_THREADS=1"
        " papermill --cwd chapters -k python3 {input[0]} _build/executing/{wildcards.chapter}.vector.ipynb &&"
        " mv _build/executing/{wildcards.chapter}.vector.ipynb {output}"

rule edition:
    # Read together, by one of Sphinx's builders: what is not a page a chapter.
    input:
        files(*PROSE, "pages/**/*", "_extra/**/*"), LIBRARY, SETTINGS, "tools/printed.py", "tools/printed.js",
        notebooks=lambda wildcards: expand(EDITIONS[wildcards.edition].notebooks, chapter=CHAPTERS),
    output: "_build/computing-in-memory-reproduced.{edition,pdf|epub}"
    params:
        stage="_build/stage-{edition}",
        builder=lambda wildcards: EDITIONS[wildcards.edition].builder,
        keep=lambda wildcards: EDITIONS[wildcards.edition].keep,
    shell:
        "rm -rf {params.stage} && mkdir -p {params.stage}/chapters && cp -r {PROSE} {params.stage} &&"
        " cp {input.notebooks} {params.stage}/chapters && jupyter-book config sphinx {params.stage} > /dev/null &&"
        " sphinx-build -q -W --keep-going -d {params.stage}/read -b {params.builder} {params.stage} {params.stage}/made &&"
        " {params.keep} {output} && rm -rf {params.stage}"

rule zips:
    input: expand("_build/zips/{chapter}.zip", chapter=CHAPTERS)

rule zip:
    input:
        lambda wildcards: reached(wildcards.chapter),
        LIBRARY, "tools/bundle.py", files("chapters/*.ipynb", "pages/*.md", "pages/images/*", "LICENSE*"),
        "references.bib", files("data/sweeps/*.yml", "data/turned.json", "data/README.md"),
    output: "_build/zips/{chapter}.zip"
    shell: "python tools/bundle.py {wildcards.chapter} {output}"

rule refresh:
    input: expand("_build/executed/{chapter}.ipynb", chapter=CHAPTERS)
    shell: "python tools/refresh.py {input}"

rule lint:
    input: LIBRARY, SETTINGS, files("tests/**/*.py", "tools/*.py", "chapters/*.ipynb")
    output: touch("_build/checked/lint")
    shell: "ruff check && ruff format --check && mypy && lint-imports --no-cache --no-logo"

rule unit:
    input:
        LIBRARY, SETTINGS, files("tests/**/*.py", "tests/**/*.json", "intro.md", "pages/*.md"),
        files("data/*.*", "data/*/*.yml", "data/*/*.csv", "_config.yml", ".binder/*"), folders("data/*", "data/*/*"),
    output: touch("_build/checked/unit")
    threads: ALL_CORES
    shell:
        "python -m slipcover -m pytest -n {threads} --ignore=tests/book --ignore=tests/browser -m 'not compiles'"

rule compiled:
    input: LIBRARY, SETTINGS, files("tests/*.py", "tests/chip/*.py", "pages/*.md")
    output: touch("_build/checked/compiled")
    shell: "pytest tests/chip -m compiles"

rule nbval:
    input: lambda wildcards: reached(wildcards.chapter)
    output: touch("_build/checked/{chapter}")
    shell: "pytest --nbval --nbval-current-env --nbval-cell-timeout=300 {input[0]}"

rule bookcheck:
    input:
        "_build/committed/index.html",
        files("tests/*.py", "tests/book/*.py", "tools/*.py", "chapters/*.ipynb"),
        files("data/*/*.yml", "data/*/*.csv", "*.md", "Makefile", "Snakefile", ".ci/*", "profiles/**/*"),
        folders("data/*", "data/*/*"), LIBRARY, SETTINGS, "LICENSE", "cimlib/py.typed",
    output: touch("_build/checked/book")
    shell: "pytest tests/book"

rule browsercheck:
    input:
        "_build/committed/index.html",
        files("tests/*.py", "tests/look.js", "tests/browser/*.py"), SETTINGS,
    output: touch("_build/checked/browser")
    threads: ALL_CORES
    shell: "pytest -n {threads} tests/browser"
