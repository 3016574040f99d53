PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROTOS := $(wildcard proto/paceline/v1/*.proto)
UV_VERSION := 0.13.9
export UV_FIND_LINKS ?= $(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null || echo "$$PIP_FIND_LINKS")
ifeq ($(strip $(UV_FIND_LINKS)),)
unexport UV_FIND_LINKS
endif

.PHONY: setup xgrammar demo check test soak images format proto proto-drift lock clean

setup: $(STAMP)

$(STAMP): pyproject.toml requirements.lock
	@echo "Setting up $(VENV): about 300 MB to download with a CPU build of torch at hand, up to 3 GB without."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.lock --editable ".[engine,dev]"
	@touch $@

# The second backend for grammars.
xgrammar: $(STAMP)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.lock --editable ".[xgrammar]"

demo: $(STAMP)
	@mkdir -p build
	@$(BIN)/paceline demo --timeline build/timeline.html

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --diff .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	@$(MAKE) --no-print-directory proto-drift

test: check
	$(BIN)/pytest

# The long form of tests that try many random schedules, messages and requests: about half an hour.
soak: $(STAMP)
	PACELINE_SCHEDULES=1000 $(BIN)/pytest --timeout 1800 tests/services/test_chaos.py
	PACELINE_FUZZ=20000 PACELINE_FUZZ_HTTP=10000 $(BIN)/pytest tests/services/test_fuzz.py tests/gateway/http/test_fuzz.py

# Builds what docker/compose.yaml names, without a container engine, and serves a text from it; as root on Linux.
# Where torch's builds for processors come from elsewhere: make images BUILD_ARGS=--build-arg=UV_TORCH_BACKEND=
images: $(STAMP)
	$(BIN)/python -m tests.docker.images $(BUILD_ARGS)

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Generated with grpcio-tools 1.81.1: newer generators need a newer protobuf at run time than vLLM allows.
proto: $(STAMP)
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=. --pyi_out=. --grpc_python_out=. $(PROTOS)

proto-drift: $(STAMP)
	@rm -rf build/proto && mkdir -p build/proto
	@$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=build/proto --pyi_out=build/proto --grpc_python_out=build/proto $(PROTOS)
	@diff -r -x __init__.py -x __pycache__ build/proto/paceline/v1 paceline/v1 && echo "generated code is current"

# Exact versions of everything, torch without a local suffix so that any build of it fits.
lock: $(STAMP)
	@mkdir -p build && echo "torch==2.13.0" > build/lock.in
	$(BIN)/uv pip compile --quiet pyproject.toml --all-extras --no-annotate --no-header --no-emit-find-links \
	    --python-version 3.11 --constraint build/lock.in | sed -e 's/+cpu//' > requirements.lock

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
