# The two commands that matter: `make demo` and `make test`. Each makes its own virtual environment.

# The newest Python that this package is tested on, otherwise `python3`. Each candidate is run, because PATH may hold
# a pyenv shim for a version that is not installed, and Debian ships python3 without ensurepip.
PYTHON ?= $(shell for p in python3.15 python3.14 python3.13 python3.12 python3.11 python3 python; do \
	if $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	then echo $$p; break; fi; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
CODE := pyjama_instrument tests examples docs $(wildcard benchmarks)
PARALLEL := --numprocesses=auto --maxprocesses=4 --dist=worksteal
MATRIX := 3.11 3.12 3.13 3.14 3.15

export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1 # its check for a newer version needs the network

.DEFAULT_GOAL := help
.PHONY: help demo test stress lint fmt cover docs matrix bench browser system screenshots clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 16

demo: $(VENV)/.viewer ## start the dashboard and some agents to look at (ARGS=--once exits by itself)
	@exec $(BIN)/pyjama demo $(ARGS)

test: lint browser system ## all that CI runs: lint, types, layers, then all tests (ARGS=... goes to pytest)
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

stress: PACKAGES += clojure libdata-json-clojure # to run an agent of the original tool
stress: lint browser system ## the same tests at full size: long storms, every injection (ARGS=... goes to pytest)
	@PYJAMA_STRESS=1 $(BIN)/python -m pytest -o timeout=3600 $(ARGS)

lint: $(VENV)/.dev ## ruff, mypy --strict, import-linter, codespell
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/mypy --strict
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/codespell $(CODE) *.md Makefile mkdocs.yml pyproject.toml

fmt: $(VENV)/.dev ## format and sort the code
	@$(BIN)/ruff check --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

cover: $(VENV)/.dev ## branch coverage, dying children included
	@rm -rf .coverage && mkdir .coverage
	@$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine --quiet && $(BIN)/coverage report

docs: $(VENV)/.dev ## the documentation as a site, warnings as errors
	@$(BIN)/mkdocs build --quiet
	@echo "build/site/index.html"

bench: ## measure what recording costs, beside other packages: about 20 minutes (ARGS="overhead --quick" for less)
	@$(PYTHON) -m benchmarks $(ARGS)

screenshots: $(VENV)/.dev ## take the pictures in docs/images from the running demo; needs Chromium
	@$(BIN)/python docs/screenshots.py

# Each version has its own environment. Versions that are not on this machine are reported and left out.
matrix: ## the tests with each Python from 3.11 to 3.15 on this machine, warnings as errors
	@set -e; for v in $(MATRIX); do \
		found=; for p in python$$v "$$HOME"/.pyenv/versions/$$v*/bin/python; do \
			if "$$p" -c 'import ensurepip' >/dev/null 2>&1; then found=$$p; break; fi; done; \
		if [ -z "$$found" ]; then echo "== Python $$v: not found, left out"; continue; fi; \
		echo "== Python $$v: $$found"; \
		$(MAKE) --no-print-directory VENV=.venv-$$v PYTHON="$$found" .venv-$$v/.dev; \
		.venv-$$v/bin/python -W error -m pytest $(PARALLEL) $(ARGS); \
	done

# The browser tests use Debian's Chromium. If it cannot be installed, they are skipped and print why; if CI is set,
# they fail.
browser:
	@for b in chromium chromium-browser google-chrome; do command -v $$b >/dev/null 2>&1 && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		echo "installing chromium for the browser tests"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends chromium >/dev/null && exit 0; fi; \
	echo "no Chromium here and none could be installed: the browser tests will be skipped"

# The fault tests kill processes at single system calls (strace) and simulate power failures (e2fsprogs). The shells run
# the scripts of `pyjama completion`. RQ needs a Redis server; each test starts its own. If these cannot be installed,
# the tests are skipped and print why.
PACKAGES := strace e2fsprogs mount zsh fish redis-server
system:
	@dpkg-query -W $(PACKAGES) >/dev/null 2>&1 && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		echo "installing $(PACKAGES) for the tests"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends $(PACKAGES) >/dev/null && exit 0; fi; \
	echo "not all of $(PACKAGES) can be installed here: some tests will be skipped"

clean: ## remove environments, caches and build products
	@rm -rf .venv .venv-* .bench .coverage .grimp_cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: the package is installed in place, so only a change of pyproject.toml requires a new installation.
$(VENV)/.viewer: pyproject.toml
	@$(make-venv)
	@echo "installing pyjama_instrument into $(VENV)"
	@$(PIP) --editable '.[viewer]'
	@touch $@

$(VENV)/.dev: pyproject.toml
	@$(make-venv)
	@echo "installing pyjama_instrument and its development tools into $(VENV)"
	@$(PIP) --editable '.[viewer,dev]'
	@touch $(VENV)/.viewer $@

define make-venv
if ! $(BIN)/python -c '' 2>/dev/null; then \
	if [ -z "$(PYTHON)" ]; then \
		echo "Python 3.11 or newer with its venv module is needed (Debian: apt-get install python3-venv)," \
			"or give its path: make PYTHON=/path/to/python" >&2; exit 1; fi; \
	$(PYTHON) -m venv --clear $(VENV); fi
endef
