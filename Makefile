# Everything runs in .venv, created from requirements.lock with the newest supported Python found.
PYTHON ?= $(firstword $(foreach p,python3.13 python3.12 python3.11 python3,$(shell $(p) -c 'import sys; print("$(p)" if (3,11) <= sys.version_info < (3,14) else "")' 2>/dev/null)))
RUNS ?= runs
SEED ?= 0
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help env quickstart data-imagenet data-imagenet-boxes data-check data-resize bench-input benchmark bench-layers gpu-compile torture test test-fast lint \
  format lock notebooks docs docs-links clean gpu

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9_-]+:.*## / {printf "  %-27s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Says which argument a target lacks before anything is installed.
needs-%:
	@test -n "$($*)" || { echo "give $*=..., as in: make $(firstword $(MAKECMDGOALS)) $*=/path" >&2; exit 2; }

env: $(STAMP)  ## create the environment in .venv

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "deepconv needs Python 3.11 or newer: make env PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

quickstart: $(STAMP)  ## train a narrow VGG on drawn images, minutes on two cores; SEED=0
	$(BIN)/deepconv train --config=configs/quickstart.py --config.seed=$(SEED) --workdir=$(RUNS)/quickstart_seed$(SEED)

TARS ?=
BOXES ?=
NAME ?= imagenet2012
SHORTER ?= 512
data-imagenet: needs-TARS $(STAMP)  ## prepare ImageNet from its two tar files; TARS=folder
	$(BIN)/deepconv data imagenet --tars=$(TARS)

data-imagenet-boxes: needs-BOXES $(STAMP)  ## add ILSVRC's boxes to a prepared data set; BOXES=folder NAME=imagenet2012
	$(BIN)/deepconv data imagenet-boxes --boxes=$(BOXES) --name=$(NAME)

data-check: $(STAMP)  ## read a prepared data set from end to end; NAME=imagenet2012
	$(BIN)/deepconv data check --name=$(NAME)

data-resize: $(STAMP)  ## copy a prepared data set with smaller images; NAME=imagenet2012 SHORTER=512
	$(BIN)/deepconv data resize --name=$(NAME) --shorter=$(SHORTER)

IMAGES ?=
bench-input: needs-IMAGES $(STAMP)  ## time the input pipeline against tf.data and PyTorch (installs both); IMAGES=folder of JPEGs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m experiments.bench_input --images=$(IMAGES)

CONFIG ?= configs/vgg_d.py
WHAT ?= train,forward
BATCH ?=
COMPARE ?=
benchmark: $(STAMP)  ## time a config; CONFIG=configs/vgg_d.py WHAT=train,forward BATCH=64 COMPARE=torch (installs it)
	$(if $(COMPARE),$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(COMPARE)]')
	$(BIN)/python -m $(if $(COMPARE),experiments.bench_$(COMPARE),deepconv benchmark) --config=$(CONFIG) --what=$(WHAT) $(if $(BATCH),--batch=$(BATCH))

GPU_COMPILE ?=
COMPILER := .compiler
gpu-compile: $(COMPILER)/.installed  ## compile networks for H100s without one, compare with before; GPU_COMPILE=--update
	PYTHONPATH=$(COMPILER) $(BIN)/python -m tests.gpu_compile $(GPU_COMPILE)

# Not in .venv: where jax finds the plugin and no GPU, every command would begin with jax's notices.
$(COMPILER)/.installed: $(STAMP)
	version=$$($(BIN)/python -c "import importlib.metadata as m; print(m.version('jaxlib'))") && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target=$(COMPILER) \
	  jax-cuda12-plugin==$$version jax-cuda12-pjrt==$$version nvidia-cuda-nvcc-cu12
	@touch $@

bench-layers: $(STAMP)  ## time a config's convolutions against PyTorch's (installs it); CONFIG=configs/vgg_d.py BATCH=4
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[torch]'
	$(BIN)/python -m experiments.bench_layers --config=$(CONFIG) $(if $(BATCH),--batch=$(BATCH))

SIZE ?=
CUDA ?= cuda12
gpu: $(STAMP)  ## measure everything on one GPU, in 25 minutes; twice to continue; CUDA=cuda12 (SIZE=tiny: on the CPU)
	$(if $(SIZE),,$(BIN)/python -m pip install --quiet --disable-pip-version-check 'jax[$(CUDA)]')
	$(BIN)/python -m experiments.gpu $(if $(SIZE),--rehearse --workdir=$(RUNS)/gpu_rehearsal,--workdir=$(RUNS)/gpu)

NETWORKS := vgg_a vgg_a_lrn vgg_b vgg_c vgg_d vgg_e
.PHONY: $(NETWORKS) vgg sweep-depth sweep-scale tables claims results experiment-localization experiment-transfer \
  bench-dense sweep-alexnet-ablations

# VARIANT=tiny trains narrow networks on the embedded data.
VARIANT ?=

$(NETWORKS): $(STAMP)
	$(BIN)/deepconv train --config=configs/$@.py:$(VARIANT) --workdir=$(RUNS)
	$(BIN)/python -m experiments.vgg_tables --workdir=$(RUNS)

vgg: $(NETWORKS)  ## train all VGG networks (or make vgg_d, ...) in all stages; VARIANT=tiny, RUNS=runs

sweep-depth: $(STAMP)  ## train VGG A to E at S = 256, then print Table 3
	for net in $(NETWORKS); do $(BIN)/deepconv train --config=configs/$$net.py:256,$(VARIANT) --workdir=$(RUNS) || exit; done
	$(BIN)/python -m experiments.vgg_tables --workdir=$(RUNS)

sweep-scale: $(STAMP)  ## train VGG C, D and E at S = 256, 384 and jittered, then print Table 3
	for net in vgg_c vgg_d vgg_e; do $(BIN)/deepconv train --config=configs/$$net.py:$(VARIANT) --workdir=$(RUNS) || exit; done
	$(BIN)/python -m experiments.vgg_tables --workdir=$(RUNS)

TABLES ?= 3,4,5,6,8,9
tables: $(STAMP)  ## print VGG's Tables 3 to 6, 8 and 9 for the existing runs; TABLES=3,4 RUNS=runs
	$(BIN)/python -m experiments.vgg_tables --workdir=$(RUNS) --tables=$(TABLES)

CLAIMS ?= initialization
SEEDS ?= 0,1,2
WIDTH ?=
claims: $(STAMP)  ## run claims of the papers that are not recorded yet; CLAIMS=depth,relu SEEDS=0,1,2 WIDTH=1
	$(BIN)/python -m experiments.claims --claims=$(CLAIMS) --seeds=$(SEEDS) $(if $(WIDTH),--width=$(WIDTH)) --workdir=$(RUNS)/claims

results: $(STAMP)  ## make the tables and figures of docs/results.md from the records in docs/results
	$(BIN)/python -m experiments.results

BOXES_ON ?= shapes
experiment-localization: $(STAMP)  ## which boxes, which layers, how many places and scales? BOXES_ON=shapes,folder:/path
	$(BIN)/python -m experiments.localization --datasets=$(BOXES_ON) --workdir=$(RUNS)/localization

PHOTOS ?=
CALTECH ?=
VOC ?=
experiment-transfer: needs-CALTECH needs-PHOTOS $(STAMP)  ## what are descriptors of narrow nets worth? CALTECH=folder PHOTOS=folder VOC=folder
	$(BIN)/python -m experiments.transfer --caltech=$(CALTECH) --photos=$(PHOTOS) $(if $(VOC),--voc=$(VOC)) \
	  --workdir=$(RUNS)/transfer

bench-dense: $(STAMP)  ## time dense evaluation against 150 crops (full-width VGG-D)
	$(BIN)/python -m experiments.bench_dense

sweep-alexnet-ablations: $(STAMP)  ## train AlexNet without each of its parts; VARIANT=tiny SEEDS=0,1,2
	$(BIN)/python -m experiments.claims --claims=$(if $(filter tiny,$(VARIANT)),alexnet_parts,alexnet_parts_imagenet) --seeds=$(SEEDS) \
	  --workdir=$(RUNS)/claims

KILLS ?= 50
torture: $(STAMP)  ## inject faults into real runs and compare how they end; KILLS=50 (as root: a full disk too)
	$(BIN)/python -m tests.faults.torture --kills=$(KILLS)

# A file's tests run in one process, because they share expensive fixtures.
test: $(STAMP)  ## run the tests
	$(BIN)/python -m pytest --numprocesses=logical --maxprocesses=8 --dist=loadfile --no-loadscope-reorder

test-fast: $(STAMP)  ## run the tests that start no processes and do not train for long
	$(BIN)/python -m pytest --numprocesses=logical --maxprocesses=8 --dist=loadfile --no-loadscope-reorder -m "not slow"

lint: $(STAMP)  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## format the code
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

NOTEBOOKS := $(wildcard docs/notebooks/*.md)
notebooks: $(STAMP)  ## execute the notebooks into build/notebooks/*.ipynb (installs what that takes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[notebook]'
	@mkdir -p build/notebooks
	for notebook in $(NOTEBOOKS); do \
	  executed=build/notebooks/$$(basename $$notebook .md).ipynb; \
	  $(BIN)/jupytext --quiet --to ipynb --output $$executed $$notebook && \
	  $(BIN)/jupyter-execute --inplace $$executed || exit; \
	done

SPHINX = $(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet
docs: $(STAMP)  ## build the site in docs/_build/html, with the notebooks executed (installs what that takes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	$(SPHINX) -b html docs docs/_build/html
	@echo docs/_build/html/index.html

docs-links: docs  ## check the site's links to other sites
	$(SPHINX) -b linkcheck docs docs/_build/links

lock:  ## resolve the dependencies into requirements.lock (needs uv)
	uv pip compile --quiet --universal --upgrade --python-version 3.11 --extra test --extra lint \
	  --no-header --no-annotate --no-emit-index-url --no-emit-find-links pyproject.toml -o requirements.lock

clean:  ## delete the environment and caches, but not runs or data
	rm -rf .venv .compiler .pytest_cache .ruff_cache .mypy_cache build dist docs/_build src/*.egg-info
