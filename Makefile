# Every target makes or reuses .venv; nothing else is needed than Python 3.11+, make and a package index.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

# Hundreds of processes start in the tests: each would compile Segue again where this is set.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test check bench clean
.DEFAULT_GOAL := demo

$(STAMP): pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Segue needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/python examples/online_retail/demo.py

test: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist worksteal

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/basedpyright
	$(BIN)/lint-imports

bench: $(STAMP)
	@for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .demo
