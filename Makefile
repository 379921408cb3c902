# What there is to do in a checkout; `make` lists it. Needs make and Python 3.11 or newer, nothing else.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
DEMO := demo
PEERS := bench-data/peers-venv
MDS := $(VENV)/mds
JS := tests/js/node_modules

.DEFAULT_GOAL := help
.SUFFIXES:
.DELETE_ON_ERROR:
.PHONY: help demo test lint format bench bench-peers wheel clean FORCE

help: ## List these commands
	@sed -n 's/^\([a-z-]*\): .*## /  make \1|/p' Makefile | awk -F '|' '{ printf "%-20s %s\n", $$1, $$2 }'
	@printf '\n  PYTHON=python3.12 picks the Python that .venv is made with; make clean removes an earlier .venv.\n'
	@printf '  ARGS="..." is handed on by test, bench and bench-peers, as in: make test ARGS="-k shards -x"\n'

demo: $(DEMO)/pictures/.made ## Set up, make sample pictures, a dataset of them and a preview of it
	@printf '\n== A dataset\n\n'
	$(BIN)/fgbgpack create $(DEMO)/demo.zarr --backgrounds $(DEMO)/pictures/backgrounds --foregrounds $(DEMO)/pictures/foregrounds --overwrite
	@printf '\n== A preview\n\n'
	$(BIN)/fgbgpack preview $(DEMO)/demo.zarr -o $(DEMO)/preview.png
	@printf '\n== Done. What to do next\n\n'
	@printf '  Look at %s\n\n' '$(DEMO)/preview.png'
	@printf '  Read the dataset, in %s:\n\n' '$(BIN)/python'
	@printf '    import fgbgpack\n'
	@printf '    dataset = fgbgpack.open_dataset("%s")\n' '$(DEMO)/demo.zarr'
	@printf '    batch = dataset[0:40]\n'
	@printf '    print(batch.image.shape, batch.mask.shape, batch.depth.shape)\n\n'
	@printf '  Use your own pictures (foregrounds with alpha, or --masks DIR):\n\n'
	@printf '    %s create own.zarr --backgrounds DIR --foregrounds DIR\n\n' '$(BIN)/fgbgpack'
	@printf '  README.md tells the rest; %s create --help lists every option.\n' '$(BIN)/fgbgpack'

$(DEMO)/pictures/.made: | $(VENV)/.run
	@printf '\n== Sample pictures, rendered on this machine\n\n'
	rm -rf $(DEMO)/pictures
	$(BIN)/fgbgpack sample $(DEMO)/pictures
	@touch $@

test: $(VENV)/.dev $(MDS)/.made $(JS)/.made ## Set up and run all tests
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev ## Check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## Format the code and fix what can be fixed by itself
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: $(VENV)/.dev ## Measure; ARGS="--quick" takes a minute
	$(BIN)/python benchmarks/bench.py $(ARGS)

bench-peers: $(PEERS)/.made ## Read the same samples in other formats, too; needs 10 GB of disk
	$(PEERS)/bin/python benchmarks/peers.py --install $(ARGS)

wheel: $(VENV)/.dev ## Build a wheel in dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist

clean: ## Remove everything that these commands make, .venv included
	rm -rf $(VENV) $(JS) $(DEMO) bench-data dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find fgbgpack tests benchmarks -name '__pycache__' -prune -exec rm -rf {} +

# --- the virtual environment -----------------------------------------------------------------------
#
# .made says where the environment was made, .run and .dev that everything for using fgbgpack, or for
# developing it, is installed. An environment whose Python is gone or too old, that has no pip, or that was
# moved (its scripts name their Python by an absolute path) is made anew. One that lacks a package that
# another needs is installed into again.

SOUND :=
HEALTHY :=
ifneq ($(filter-out help clean,$(or $(MAKECMDGOALS),help)),)
SOUND := $(shell $(BIN)/python -c 'import os, sys, pip; made = "$(VENV)/.made"; print("yes" if sys.version_info >= (3, 11) and (not os.path.exists(made) or open(made).read().rstrip("\n") == os.getcwd()) else "")' 2>/dev/null)
endif
ifneq ($(SOUND),)
HEALTHY := $(shell $(BIN)/python -m pip check >/dev/null 2>&1 && echo yes)
endif

FORCE:

$(VENV)/.made: $(if $(SOUND),,FORCE)
ifeq ($(SOUND),)
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "There is no $(PYTHON) here. Install Python 3.11 or newer, or say where it is: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); fgbgpack needs Python 3.11 or newer. Say where one is: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version 2>&1)."
	@$(PYTHON) -m venv --clear $(VENV)
endif
	@pwd -P > $@

$(VENV)/.run: pyproject.toml $(VENV)/.made $(if $(HEALTHY),,FORCE)
	@echo "Installing fgbgpack and what it needs into $(VENV): about a minute the first time."
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.made $(if $(HEALTHY),,FORCE)
	@echo "Installing fgbgpack and what developing it needs into $(VENV): about a minute the first time."
	@$(PIP) install --editable '.[dev]'
	@touch $@ $(VENV)/.run

# Two readers of what fgbgpack writes that only tests need; where they are not to be had, their tests are
# skipped. That of MDS asks for other versions of what is in .venv than it needs: so it lies apart, and gets
# only what it imports. That of JavaScript needs npm.
MDS_PACKAGES := mosaicml-streaming==0.13.0 zstd==1.5.7.2 brotli==1.2.1 python-snappy==0.7.3 cramjam==2.14.0 \
  xxhash==3.8.2 catalogue==2.0.10 tqdm==4.70.1

$(MDS)/.made: Makefile $(VENV)/.dev
	@rm -rf $(MDS)
	@$(PIP) install --no-deps --target $(MDS) $(MDS_PACKAGES) && touch $@ || { \
	  rm -rf $(MDS); echo "The reader of MDS cannot be installed: its tests will be skipped."; }

$(JS)/.made: tests/js/package.json tests/js/package-lock.json
	@rm -rf $(JS)
	@{ command -v npm && npm ci --prefix tests/js --prefer-offline --ignore-scripts --no-audit --no-fund --loglevel=error; } >/dev/null && \
	  touch $@ || { rm -rf $(JS); echo "Without npm and its packages, the test that reads in JavaScript will be skipped."; }

# Other formats' packages want versions of their own: they get an environment of their own.
$(PEERS)/.made: pyproject.toml $(VENV)/.made
	@echo "Installing fgbgpack and PyTorch into $(PEERS): some minutes the first time."
	@$(BIN)/python -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip -qq --disable-pip-version-check install --editable '.[torch]'
	@touch $@
