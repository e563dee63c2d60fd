# One verb a target; each sets up what it needs and is quick when there is nothing to do.
#   make run     chat (without a terminal: one question, answered to stdout)
#   make test    all tests          make check   format, lint, types, contracts
#   make bench   measurements       make proto   generated code, from proto/potluck/v1
#   make fuzz    a million inputs that strangers could send
#   make chaos   half an hour in which all breaks (as root)
#   make test-vllm   the tests of the vLLM engine, with a Python of its own for it
#   make clean   everything that was made here

PYTHON ?= python3
VENV := .venv
VLLM_VENV := .venv-vllm
BIN := $(VENV)/bin
RUN_READY := $(VENV)/.run-ready
DEV_READY := $(VENV)/.dev-ready
VLLM_READY := $(VLLM_VENV)/.ready

.PHONY: run test test-vllm check bench chaos fuzz proto clean

run: $(RUN_READY)
	@$(BIN)/potluck

test: $(DEV_READY)
	@$(BIN)/python -m pytest -n 2 --dist loadfile

test-vllm: $(DEV_READY) $(VLLM_READY)
	@POTLUCK_TEST_VLLM_PYTHON="$(abspath $(VLLM_VENV)/bin/python)" $(BIN)/python -m pytest tests/vllm_engine

check: $(DEV_READY)
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@PYTHONPATH= $(BIN)/lint-imports --no-cache
	@cd proto && ../$(BIN)/buf lint

bench: $(DEV_READY)
	@PYTHONPATH=tests $(BIN)/python tests/bench/run.py

chaos: $(DEV_READY)
	@PYTHONPATH=tests $(BIN)/python tests/bench/chaos.py

fuzz: $(DEV_READY)
	@PYTHONPATH=tests $(BIN)/python -m fuzz.run

proto: $(DEV_READY)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python proto/generate.py

clean:
	rm -rf $(VENV) $(VLLM_VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find proto scheduler tests tui worker -name __pycache__ -type d -prune -exec rm -rf {} +

# Packages are pinned with hashes; the engine is compiled from source here, once, and pip keeps the
# wheel. The project itself cannot have a hash, so it is installed last and alone.
define install
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
endef

$(RUN_READY): pyproject.toml constraints/run.txt | $(BIN)/python
	@echo "Setting up (once; compiling the engine takes several minutes)..."
	$(call install,constraints/run.txt)

$(DEV_READY): pyproject.toml constraints/dev.txt | $(BIN)/python
	@echo "Setting up for development (once; compiling the engine takes several minutes)..."
	$(call install,constraints/dev.txt)
	@touch $(RUN_READY)

# vLLM's build for processors, and what it needs of its requirements to run text models; the list is
# whole, so pip resolves nothing.
$(VLLM_READY): constraints/vllm-test.txt
	@echo "Setting up vLLM for its tests (once; 1.6 GB)..."
	@$(PYTHON) -m venv --clear $(VLLM_VENV)
	@$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --require-hashes -r $< || { \
	    echo "The tests of vLLM need Linux on x86-64, Python 3.11, and PyTorch's build for processors where pip finds it: see CONTRIBUTING.md."; \
	    exit 1; }
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "Potluck needs Python 3.11 or newer; %s is %d.%d. Set it with: make PYTHON=python3.12" % (sys.executable, v[0], v[1]))'
	@command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || { \
	    echo "The engine, llama.cpp, is compiled here, and there is no C++ compiler. Install one:"; \
	    echo "  Debian, Ubuntu: apt install build-essential    Fedora: dnf install gcc-c++    macOS: xcode-select --install"; \
	    exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "No virtual environment could be made. Debian, Ubuntu: apt install python3-venv"; exit 1; }
