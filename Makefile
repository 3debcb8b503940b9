# Everything a developer or a newcomer runs. Needs Python >= 3.10 (tested on 3.11), pip and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Which build of torch, in pip's words.
TORCH  ?= torch
export HF_HUB_DISABLE_TELEMETRY := 1
# Threads that wait give the core away instead of spinning: on a busy machine that is worth a factor of 50.
export OMP_WAIT_POLICY := passive

.PHONY: help install demo test slow test-lowest test-newest gpu check fix docs bench evaluate costs clean

help:  ## show this
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 13

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
	$(BIN)/python -m pip install --quiet -c constraints.txt --group dev -e ".[all,server]" \
		$(INTEGRATIONS:%=-e ./integrations/%)
	@touch $@

demo: $(VENV)/.demo  ## index Python's own documentation and ask it questions; about four minutes, the next time seconds
	$(BIN)/python examples/demo.py

test: install  ## the tests, on the built-in model, in two processes; about a quarter of an hour
	@echo "3,600 tests, about a quarter of an hour on two idle cores. (make slow runs those that take minutes each.)"
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadfile

slow: install  ## the tests that take minutes
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m "slow and not gpu"

# What touches other libraries most; the rest is the same whatever their versions.
VERSIONED := tests/test_encoder.py tests/model tests/golden/test_reference.py tests/data/test_tables.py \
	tests/data/test_passages.py tests/evaluation/test_datasets.py \
	tests/search/test_storage.py tests/cli/test_app.py tests/cli/test_model.py tests/cli/test_embed.py tests/server/test_requests.py \
	tests/integrations/langchain/test_langchain_adapter.py tests/integrations/llama_index/test_llama_index_adapter.py \
	tests/integrations/sentence_transformers/test_st_folder.py tests/integrations/sentence_transformers/test_st_vectors.py

test-lowest: .venv-lowest/.installed  ## those tests with the lowest versions that pyproject.toml allows (docs/versions.md)
	$(call run-versioned,.venv-lowest)

test-newest: .venv-newest/.installed  ## those tests with the newest versions there are
	$(call run-versioned,.venv-newest)

# Other versions have deprecations of their own, and their jaxtyping cannot check shapes. The second run converts.
define run-versioned
	HF_HUB_OFFLINE=1 $(1)/bin/python -m pytest -o addopts=--import-mode=importlib -o filterwarnings=default \
		-m "not slow and not network and not gpu" $(VERSIONED)
	HF_HUB_OFFLINE=1 $(1)/bin/python -m pytest -o addopts=--import-mode=importlib -o filterwarnings=default \
		-m slow tests/model/test_builtin.py -k real
endef

.venv-lowest/.installed .venv-newest/.installed: .venv-%/.installed: .ci/lowest.py pyproject.toml $(INTEGRATIONS:%=integrations/%/pyproject.toml)
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv-$*/bin/python -m pip install --quiet -c constraints.txt torch
	.venv-$*/bin/python .ci/lowest.py $* > .venv-$*/constraints.txt
	.venv-$*/bin/python -m pip install --quiet -c .venv-$*/constraints.txt build hatchling pytest pytest-asyncio beartype \
		-e ".[all,server]" -e ./integrations/langchain -e ./integrations/llama-index -e "./integrations/sentence-transformers[train]"
	@touch $@

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

bench: install  ## throughput beside what one would run instead; about an hour (docs/bench), ARGS=--quick: three minutes
	$(BIN)/python -m pip install --quiet -c constraints.txt --group bench
	HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m benchmarks.throughput $(ARGS)

# A folder with sts/*.tsv and retrieval/*/, and further models: make evaluate DATA=folder ARGS="--model NAME=FOLDER"
DATA ?=

evaluate: install  ## the paper's experiments and all rivals, into docs/results; ARGS=--quick: ten minutes, own data only
	$(BIN)/python -m pip install --quiet -c constraints.txt --group bench
	HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m research.paper $(DATA) $(ARGS)

costs: install  ## what each preset costs beside a classical pass (research/log.md says what was found)
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.costs $(ARGS)

clean:  ## remove what make install made
	rm -rf $(VENV) .venv-lowest .venv-newest
