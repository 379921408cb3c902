# What there is to do in a checkout; `make` lists it. Needs make and Python 3.11 or newer, nothing else.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
# One tested set of versions for Python 3.11; other versions of Python are not constrained by it.
CONSTRAINTS := constraints.txt
DEMO := demo
PEERS := bench-data/peers-venv
MDS := $(VENV)/mds
READERS := $(VENV)/readers
JS := tests/js/node_modules

# Each of the many processes that tests start would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.SUFFIXES:
.DELETE_ON_ERROR:
.PHONY: help demo setup test faults lint format docs bench bench-exports bench-scale bench-gpu bench-peers bench-transfer wheel constraints clean FORCE

help: ## List these commands
	@sed -n 's/^\([a-z-]*\): .*## /  make \1|/p' Makefile | awk -F '|' '{ printf "%-20s %s\n", $$1, $$2 }'
	@printf '\n  PYTHON=python3.12 picks the Python that .venv is made with; make clean removes an earlier .venv.\n'
	@printf '  ARGS="..." is passed on by test and all of bench, as in: make test ARGS="-k shards -x"\n'

demo: $(DEMO)/pictures/.made ## Set up, make sample pictures, a dataset of them and a preview of it
	@printf '\n== A dataset\n\n'
	$(BIN)/fgbgpack create $(DEMO)/demo.zarr --backgrounds $(DEMO)/pictures/backgrounds --foregrounds $(DEMO)/pictures/foregrounds --background-depth $(DEMO)/pictures/depth --placement auto --foreground-height 20%-86% --objects 1-2 --samples 2000 --shadow --overwrite
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
	@printf '  README.md and docs/ explain the rest; %s create --help lists every option.\n' '$(BIN)/fgbgpack'

$(DEMO)/pictures/.made: | $(VENV)/.run
	@printf '\n== Sample pictures, rendered on this machine\n\n'
	rm -rf $(DEMO)/pictures
	$(BIN)/fgbgpack sample $(DEMO)/pictures
	@touch $@

setup: $(VENV)/.dev $(MDS)/.made $(READERS)/.made $(JS)/.made ## Set up all that the tests need; -j3 does so at once

test: setup ## Set up and run all tests, in one process per core
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

faults: $(VENV)/.dev ## Kill, damage and cut off what is written, thousands of times, and count how it ends
	$(BIN)/python -m pytest -n auto --dist worksteal tests/faults --faults all $(ARGS)

lint: $(VENV)/.dev ## Check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## Format the code and fix what can be fixed by itself
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

docs: $(VENV)/.dev ## Build the documentation in site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@printf 'Open site/index.html; to search, serve it: %s -m http.server --directory site\n' '$(BIN)/python'

bench: $(VENV)/.dev ## Measure; ARGS="--quick" takes a minute
	$(BIN)/python benchmarks/bench.py $(ARGS)

bench-exports: $(VENV)/.dev ## Measure exports to Parquet, YOLO and LitData; needs 6 GB of memory for files
	$(BIN)/python benchmarks/export_rates.py $(ARGS)

bench-scale: $(VENV)/.dev ## Measure clusters and object stores, and simulate a large one; ARGS="--quick" takes a minute
	$(BIN)/python benchmarks/scale.py $(ARGS)

bench-gpu: $(VENV)/.dev ## Check and measure depth on an NVIDIA GPU, in five minutes
	$(BIN)/python benchmarks/gpu.py --json bench-data/gpu.json $(ARGS)

bench-peers: $(PEERS)/.made ## Read the same samples in other formats, too; needs 10 GB of disk
	$(PEERS)/bin/python benchmarks/peers.py --install $(ARGS)

bench-transfer: $(VENV)/.dev ## Train a small network on composites and test it on photographs, in hours
	$(BIN)/python benchmarks/transfer.py $(ARGS)

wheel: $(VENV)/.dev ## Build a wheel in dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist

constraints: $(VENV)/.dev ## Upgrade .venv to the newest versions and write them to constraints.txt (Python 3.11)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "$(CONSTRAINTS) is for Python 3.11: make clean, then make constraints PYTHON=python3.11" >&2; exit 1; }
	$(PIP) install --upgrade --upgrade-strategy eager --editable '.[dev]'
	@{ echo '# The versions that the tests last ran with, for Python 3.11: pip install -c constraints.txt ".[dev]"'; \
	  echo '# Written by make constraints. The CUDA libraries of PyTorch are fixed by PyTorch itself.'; \
	  $(BIN)/python -m pip freeze --exclude-editable | \
	  sed -n 's/^\([A-Za-z0-9._-]*==[^+ ;]*\)[^ ;]*$$/\1 ; python_version == "3.11"/p'; } > $(CONSTRAINTS)

clean: ## Remove everything that these commands make, .venv included
	rm -rf $(VENV) $(JS) $(DEMO) bench-data dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find fgbgpack tests benchmarks -name '__pycache__' -prune -exec rm -rf {} +

# --- the virtual environment -----------------------------------------------------------------------
#
# .made holds the path of the environment; .run and .dev mark that everything for using fgbgpack, or for
# developing it, is installed. An environment is recreated if its Python is missing or too old, if it has no
# pip, or if it was moved (its scripts contain the absolute path of their Python). If it lacks a package that
# another one needs, the packages are installed again.

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
	  echo "There is no $(PYTHON) here. Install Python 3.11 or newer, or name its path: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); fgbgpack needs Python 3.11 or newer. Name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version 2>&1)."
	@$(PYTHON) -m venv --clear $(VENV)
endif
	@pwd -P > $@

$(VENV)/.run: pyproject.toml $(CONSTRAINTS) $(VENV)/.made $(if $(HEALTHY),,FORCE)
	@echo "Installing fgbgpack and what it needs into $(VENV): about a minute the first time."
	@$(PIP) install -c $(CONSTRAINTS) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml $(CONSTRAINTS) $(VENV)/.made $(if $(HEALTHY),,FORCE)
	@echo "Installing fgbgpack and what developing it needs into $(VENV): about a minute the first time."
	@$(PIP) install -c $(CONSTRAINTS) --editable '.[dev]'
	@touch $@ $(VENV)/.run

# Readers that only tests need. If one cannot be installed, its tests are skipped. The reader of MDS, LitData,
# Ultralytics and the evaluation of COCO panoptic require other versions of packages than .venv has, or more, without
# needing them: they are installed apart, with only what they import. torchvision goes with one build of PyTorch
# only, and is not imported. The JavaScript reader needs npm.
MDS_PACKAGES := mosaicml-streaming==0.13.0 zstd==1.5.7.2 brotli==1.2.1 python-snappy==0.7.3 cramjam==2.14.0 \
  xxhash==3.8.2 catalogue==2.0.10 tqdm==4.70.1

$(MDS)/.made: Makefile | $(VENV)/.made
	@rm -rf $(MDS)
	@$(PIP) install --no-deps --target $(MDS) $(MDS_PACKAGES) && touch $@ || { \
	  rm -rf $(MDS); echo "The reader of MDS cannot be installed: its tests will be skipped."; }

READERS_PACKAGES := ultralytics==8.4.190 torchvision==0.28.0 opencv-python-headless==5.0.0.93 matplotlib==3.11.2 \
  cycler==0.12.1 kiwisolver==1.5.1 panopticapi-lite==0.2.0 litdata==0.2.76 tifffile==2026.3.3 zstd==1.5.7.2

$(READERS)/.made: Makefile | $(VENV)/.made
	@rm -rf $(READERS)
	@$(PIP) install --no-deps --target $(READERS) $(READERS_PACKAGES) && touch $@ || { \
	  rm -rf $(READERS); echo "LitData, Ultralytics and panopticapi cannot be installed: their tests will be skipped."; }

$(JS)/.made: tests/js/package.json tests/js/package-lock.json
	@rm -rf $(JS)
	@{ command -v npm && npm ci --prefix tests/js --prefer-offline --ignore-scripts --no-audit --no-fund --loglevel=error; } >/dev/null && \
	  touch $@ || { rm -rf $(JS); echo "Without npm and its packages, the test that reads in JavaScript will be skipped."; }

# Packages of other formats require versions of their own, so they get their own environment.
$(PEERS)/.made: pyproject.toml $(VENV)/.made
	@echo "Installing fgbgpack and PyTorch into $(PEERS): some minutes the first time."
	@$(BIN)/python -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip -qq --disable-pip-version-check install --editable '.[torch]'
	@touch $@
