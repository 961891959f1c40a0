# The two commands of the README: `make demo` and `make test`. Everything runs in .venv; the demo installs only what it needs.
PYTHON ?= python3
BIN := .venv/bin
# Where the environment forbids to write bytecode, every start of Python would compile torch anew: 10 s each.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo test test-all lint soak seedling docs bench

setup:
	@$(PYTHON) scripts/setup.py

demo:
	@$(PYTHON) scripts/setup.py --lean
	@$(BIN)/python examples/demo.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: setup lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal -m "not slow and not soak"

test-all: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal -m "slow and not soak"

soak: setup
	$(BIN)/pytest -m "soak"

docs: setup
	$(BIN)/python scripts/reference.py

# Training beside its peers: hours on two cores, in parts if need be. BENCH="--work m15_lora_bf16 --repeats 1" does less (bench/README.md).
bench: setup
	$(BIN)/python -W ignore -m bench.train $(BENCH)

# Makes builtin:seedling again, below two hours on two cores. SHARED holds the third-party texts (examples/seedling/README.md).
SHARED ?= ../shared
seedling: setup
	$(BIN)/python examples/seedling/sample_teacher.py --shared $(SHARED)
	$(BIN)/python examples/seedling/build_corpus.py --shared $(SHARED)
	$(BIN)/python examples/seedling/train_tokenizer.py
	$(BIN)/python examples/seedling/init_model.py
	$(BIN)/whet train examples/seedling/seedling.yaml --out runs/seedling
	$(BIN)/python examples/seedling/ship.py runs/seedling
