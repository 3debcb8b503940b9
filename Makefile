# Everything a developer or a newcomer runs. Needs Python >= 3.10 (tested on 3.11), pip and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Which build of torch, in pip's words.
TORCH  ?= torch
export HF_HUB_DISABLE_TELEMETRY := 1
# Threads that wait give the core away instead of spinning: on a busy machine that is worth a factor of 50.
export OMP_WAIT_POLICY := passive

.PHONY: help install demo test slow gpu check fix docs bench costs clean

help:  ## show this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

install: $(VENV)/.installed  ## make .venv with the library, its extras and the developer's tools

INTEGRATIONS := langchain llama-index sentence-transformers

# What make demo needs, and nothing else. make install adds to it.
$(VENV)/.demo: pyproject.toml constraints.txt
	@echo "Installing into $(VENV), once: about 300 MB to fetch and 1.3 GB on disk, in one to three minutes."
	@echo "(On Linux pip may take the torch with CUDA, of several GB. For another build: make demo TORCH='torch --index-url URL')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install -c constraints.txt $(TORCH)
	$(BIN)/python -m pip install -c constraints.txt --group demo -e ".[cli,faiss]"
	@touch $@

$(VENV)/.installed: $(VENV)/.demo $(INTEGRATIONS:%=integrations/%/pyproject.toml)
	@echo "Adding the developer's tools to $(VENV), once: another 1 GB on disk, in a few minutes."
	$(BIN)/python -m pip install --quiet -c constraints.txt --group dev -e ".[all]" \
		$(INTEGRATIONS:%=-e ./integrations/%)
	@touch $@

demo: $(VENV)/.demo  ## index Python's own documentation and ask it questions; about four minutes, the next time seconds
	$(BIN)/python examples/demo.py

test: install  ## the tests, on the built-in model, in two processes
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadfile

slow: install  ## the tests that take minutes
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m "slow and not gpu"

gpu:  ## the tests that need a GPU, in the environment that has torch for it
	HF_HUB_OFFLINE=1 PYTHONPATH=.:src:integrations/sentence-transformers/src:$$PYTHONPATH $(PYTHON) -m pytest -m gpu tests/gpu

check: install  ## linters and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: install  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install  ## the site, into site/; a warning is an error
	$(BIN)/python -m pip install --quiet -c constraints.txt --group docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: install  ## throughput beside what one would run instead; about 45 minutes (docs/bench), ARGS=--quick: three
	$(BIN)/python -m pip install --quiet -c constraints.txt --group bench
	HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m benchmarks.throughput $(ARGS)

costs: install  ## what each preset costs beside a classical pass (research/log.md says what was found)
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.costs $(ARGS)

clean:  ## remove what make install made
	rm -rf $(VENV)
