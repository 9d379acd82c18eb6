# make train   train with the embedded defaults; ARGS="env=Acrobot-v1 seed=1" adds words
# make test    the whole test suite
# make check   what a change must pass: format, lint, who imports whom, types, the site, the tests
# make docs    the site, into build/site
# make setup   only what the others do first: .venv with everything in it
# make bench   speed against Stable-Baselines3, into benchmarks/results/
# make clean   remove all that make has made; runs/ stays
#
# Another Python: make setup PYTHON=/opt/python/bin/python3.12

PYTHON ?= python3.11 python3 python3.12 python3.13 python
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt
# A link tree (strict) and not an import hook: type checkers and editors follow it, too.
EDITABLE := --config-settings editable_mode=strict --editable
# The time of a folder changes when a file in it comes or goes: then the link tree is made anew.
PACKAGES := core networks envs agents configs training
FOLDERS := $(PACKAGES) $(filter-out %/__pycache__/.,$(wildcard $(PACKAGES:=/*/.) $(PACKAGES:=/*/*/.)))
STAMP := $(VENV)/.installed

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup train test check docs bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt $(FOLDERS)
	@$(if $(filter pyproject.toml constraints.txt,$?),$(install),$(link))
	@touch $@

# A Python that is too old, or Debian's without its venv package, is passed over.
define install
set -e; python=; \
for name in $(PYTHON); do \
	$$name -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		&& python=$$name && break; \
done; \
if [ -z "$$python" ]; then \
	echo "error: no Python of 3.11 or newer with venv among: $(PYTHON); see PYTHON= in the Makefile" >&2; \
	exit 1; \
fi; \
echo "installing into $(VENV), once; this takes a few minutes"; \
[ -x $(BIN)/python ] || $$python -m venv --clear $(VENV); \
$(INSTALL) setuptools; \
$(INSTALL) $(EDITABLE) '.[dev]'
endef

define link
echo "linking the packages anew"; \
$(INSTALL) --no-deps --no-build-isolation $(EDITABLE) .
endef

train: setup
	$(BIN)/neuraxis train $(ARGS)

test: setup
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile

check: setup
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(MAKE) --no-print-directory docs
	$(MAKE) --no-print-directory test

docs: setup
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html -c docs/site . build/site
	@echo "site: build/site"

bench: setup
	$(BIN)/python benchmarks/speed.py

clean:
	rm -rf $(VENV) build dist neuraxis.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './runs/*' -prune -exec rm -rf {} +
