# The commands of the book. What depends on what is in the Snakefile; here are only the environment
# and the names. `make` alone lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
export PYTHONUTF8 := 1
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
SNAKEMAKE := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake

.PHONY: help book html pdf epub test run refresh sweep paper stale recheck resamples bench wheel zips clean

help:
	@echo "make book     run every chapter at its defaults and render the book"
	@echo "make html     render the book from the committed outputs, running nothing"
	@echo "make pdf      the printed edition: runs every chapter for figures that are drawings (make epub: an e-book)"
	@echo "make test     unit tests, committed outputs against fresh ones, checks of the book"
	@echo "make run      one chapter, other parameters: make run CHAPTER=a_chip_is_a_seed ARGS=\"-p sigma 0.2\""
	@echo "make refresh  run the chapters that changed and store their outputs in chapters/"
	@echo "make sweep    make the desk-scale records that are missing (STALE=1: and those of older code)"
	@echo "make paper    the paper's own size on a CUDA device, in so many minutes: make paper MINUTES=9"
	@echo "make stale    list the records made by older code"
	@echo "make recheck  accept them if the same numbers come out: make recheck EXPERIMENT=deployed"
	@echo "make resamples  how many resamples turn each verdict: after new records or rules"
	@echo "make bench    the speed table"
	@echo "make wheel    the library alone, for your own work: dist/cimlib-*.whl"
	@echo "make zips     each chapter as a zip that runs by itself: _build/zips/*.zip"
	@echo "make clean    remove everything that was built, records and .venv excepted"

$(STAMP): requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11, 5) else \
	  f"PYTHON = {sys.executable} is {sys.version.split()[0]}; allowed: 3.11.5 or later: make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --no-compile -r requirements.txt -c constraints.txt
	$(BIN)/python -m pip install -q -e . --no-deps --no-build-isolation
	mkdir -p .venv/etc/ipython
	echo 'c.IPKernelApp.log_level = "ERROR"' > .venv/etc/ipython/ipython_kernel_config.py
	touch $@

book: $(STAMP)
	@$(SNAKEMAKE) book
	@echo "The book: $(CURDIR)/_build/html/index.html"

html: $(STAMP)
	@$(SNAKEMAKE) html
	@echo "The book as committed: $(CURDIR)/_build/committed/index.html"

test: $(STAMP)
	@$(SNAKEMAKE) test

run: $(STAMP)
	@$(BIN)/python tools/run.py "$(CHAPTER)" $(ARGS)

pdf epub: $(STAMP)
	@$(SNAKEMAKE) _build/computing-in-memory-reproduced.$@
	@echo "The book: $(CURDIR)/_build/computing-in-memory-reproduced.$@"

refresh: $(STAMP)
	@$(SNAKEMAKE) refresh

sweep: $(STAMP)
	@stale="$(if $(STALE),$$($(BIN)/python -m companion.sweeps stale --swept))"; \
	$(SNAKEMAKE) sweep --quiet host reason rules $${stale:+--forcerun $$stale}

# with the torch found there: a machine with a CUDA device has one that fits it
paper:
	@$(or $(wildcard $(BIN)/python),$(PYTHON)) -m companion.paper --minutes $(or $(MINUTES),9) $(ARGS)

stale: $(STAMP)
	@$(BIN)/python -m companion.sweeps stale

recheck: $(STAMP)
	@$(BIN)/python -m companion.recheck $(if $(AGAINST),--against "$(AGAINST)") $(if $(MINUTES),--minutes $(MINUTES)) $(EXPERIMENT)

resamples: $(STAMP)
	@$(BIN)/python -m companion.resamples

bench: $(STAMP)
	@$(BIN)/python tests/benchmarks/speed.py

wheel: $(STAMP)
	@rm -rf build dist # setuptools would pack what an older build left
	@$(BIN)/python -m pip wheel -q . --no-deps --no-build-isolation -w dist
	@rm -rf build
	@echo "The library: $(CURDIR)/$$(ls dist/*.whl)"

zips: $(STAMP)
	@$(SNAKEMAKE) zips
	@echo "A zip per chapter: $(CURDIR)/_build/zips"

clean:
	rm -rf _build build dist .snakemake .hypothesis .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find cimlib companion tests tools -type d -name __pycache__ -prune -exec rm -rf {} +
