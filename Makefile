# Every target first makes the environment if it is missing; see README.md.
BLOCKS ?= 8
CELLS ?= core
STATE := $(or $(XDG_STATE_HOME),$(HOME)/.local/state)/mlscale
# k3s is included once our own cluster exists (make cluster), running or stopped; another cluster has to be named, since
# runs would be deployed on it: KUBECONFIG=... ENVIRONMENTS="torchserve rayserve k3s". eks, rehearsed, is included if it
# has machines (make cluster MACHINES=1).
OWN := $(STATE)/cluster/default
ENVIRONMENTS ?= torchserve rayserve$(if $(wildcard $(OWN)/kubeconfig), k3s)$(if $(shell grep -ls '"machines": *true' $(OWN)/settings.json), eks)
RUNS ?= runs
QUICK ?=
PROTOCOL ?=
MACHINES ?=
LAB_OPTIONS ?=
BIN := .venv/bin
# With it, each of the many processes of an experiment or a test would compile pandas, torch and ray anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup test proof campaign soak audit paper-figures paper docs cluster cluster-down lab lock lint clean bench-extra

help:
	@echo "make paper-figures [QUICK=1] [BLOCKS=$(BLOCKS)] [CELLS=core,shipped,open,sensitivity,partition,...] [ENVIRONMENTS=\"$(ENVIRONMENTS)\"] [RUNS=dir] [PROTOCOL=file]"
	@echo "                   measure, compare and draw the figures; stop it at any time, it resumes"
	@echo "                   EXPERIMENT=folder: of a model of your own, by the experiment.yaml in it (docs/own-model.md)"
	@echo "make paper         the published runs as one page, paper/build/paper.html, and paper.pdf where a Chromium is found"
	@echo "make docs          the documentation as a site, site/index.html; broken links are errors"
	@echo "make test          types, style, layers, all tests, with the real frameworks"
	@echo "make proof         longer tests: 100,000 malformed bodies, 100,000 decisions beside Kubernetes' own HPA,"
	@echo "                   a cluster killed 20 times, 30 cycles of machines, the image, the records about the twin,"
	@echo "                   notebooks 02, 03 and 08 live, all figures drawn again, both examples everywhere, KEDA"
	@echo "                   installed by its own manifests, Ray Serve on a cluster of three nodes (95 min)"
	@echo "make campaign      faults by the hundred at random moments, and what they leave behind; resumes (three hours)"
	@echo "make soak          two hours of live load on all local environments, 24 h simulated: does memory grow?"
	@echo "make audit         known vulnerabilities and licences of the packages in requirements.lock"
	@echo "make cluster       a real one-node Kubernetes on this machine (Linux, root); repairs an existing one"
	@echo "                   MACHINES=1: with Karpenter, and machines that join and leave"
	@echo "                   ZERO=1: with KEDA's HTTP add-on, so that keda scales to zero replicas"
	@echo "make cluster-down  remove it without a trace; its build stays in the cache"
	@echo "make lab           JupyterLab on notebooks/00_start: learn, measure, decide"
	@echo "make lock          pin the newest versions into requirements.lock"
	@echo "make clean         remove .venv and caches; runs and figures stay"

setup:
	@./setup.sh

paper-figures: setup
ifdef EXPERIMENT
	@$(BIN)/mlscale experiment run "$(EXPERIMENT)" $(if $(PROTOCOL),--protocol "$(PROTOCOL)") $(if $(filter-out 0,$(QUICK)),--quick)
else
	@$(BIN)/mlscale experiment run --environments "$(ENVIRONMENTS)" --blocks $(BLOCKS) --cells "$(CELLS)" --runs "$(RUNS)" $(if $(PROTOCOL),--protocol "$(PROTOCOL)") $(if $(filter-out 0,$(QUICK)),--quick)
endif

paper: setup
	@$(BIN)/mlscale experiment paper

docs: setup
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html: written"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy benchmarks --exclude load_locust
	$(BIN)/lint-imports --no-cache

test: setup
	@$(BIN)/python tests/side_by_side.py

# With AVX-512, numpy and OpenBLAS round differently, and some simulated runs differ from the published records (METHOD, section 8).
proof: setup
	OPENBLAS_CORETYPE=Haswell NPY_DISABLE_CPU_FEATURES="X86_V4 AVX512_ICL AVX512_SPR" $(BIN)/pytest -q -m proof

campaign: setup
	@$(BIN)/python tests/campaign/campaign.py

soak: setup
	@$(BIN)/python tests/campaign/soak.py

audit: setup
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.lock --group audit
	$(BIN)/pip-licenses --order=license
	$(BIN)/pip-audit --requirement requirements.lock --no-deps --disable-pip --strict

cluster: setup
	@$(BIN)/mlscale cluster up $(if $(filter-out 0,$(MACHINES)),--machines) $(if $(filter-out 0,$(ZERO)),--zero)

cluster-down: setup
	@$(BIN)/mlscale cluster down

lab: setup
	$(BIN)/jupyter lab --allow-root --LabApp.app_settings_dir="$(CURDIR)/packages/lab/jupyterlab" \
		--ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks/00_start.ipynb $(LAB_OPTIONS)

bench-extra: setup
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.lock --group bench

lock: setup
	$(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links \
		$(addprefix --no-emit-package ,mlscale mlscale-aws codereader onenode mlscale-twin mlscale-lab) \
		--group dev pyproject.toml packages/*/pyproject.toml paper/pyproject.toml --output-file requirements.lock

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find mlscale packages paper tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
