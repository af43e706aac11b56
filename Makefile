# `make demo` and `make test` are all a newcomer needs; both install what they use into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo review test lint clean

install: .venv/installed

.venv/installed: requirements.txt setup.cfg
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Python {v[0]}.{v[1]} is too old: call make with PYTHON=python3.11 or later")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: install
	$(BIN)/python -m launch.pipeline --config=configs/digits.py --workdir=runs/digits

review: demo
	$(BIN)/python -m launch.review --config=configs/digits.py --workdir=runs/digits

test: install lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

clean:
	rm -rf .venv build *.egg-info
