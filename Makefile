# make setup    everything needed, from a bare machine (deploy/setup.sh says what it does)
# make demo     pgbench with 100 clients over 20 database connections, live numbers
# make test     all tests (T="tests/unit -k lex" for some)
# make bench    against PgBouncer and direct (A="--quick --peer /path/to/pgbouncer")
# make lint     ruff, mypy, cython-lint
# make debug    assertions and counters: unit and golden tests on that build
# make asan     AddressSanitizer and UBSan: unit tests and fuzz seeds on that build
PYTHON_BIN := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(PATH)
FUZZ_SECONDS ?= 0
T ?=
A ?=

# instrumented builds live beside the release build, and are tested from there
variant = PROXY_BUILD=build/$(1) PYTHONPATH=$(CURDIR)/build/$(1) $(2) $(PYTHON_BIN) -m pytest -o pythonpath="build/$(1) ."
build-variant = $(1) $(PYTHON_BIN) setup.py -q build --parallel $$(nproc) --build-lib build/$(2) --build-temp build/temp-$(2)
existing = $(wildcard $(1))
asan-env = LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" PYTHONMALLOC=malloc \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1

.PHONY: setup demo test bench lint debug asan build clean help

help:
	@sed -n 's/^# //p' Makefile

setup:
	@deploy/setup.sh

# a fresh clone sets itself up at the first target that needs it
.venv/.setup-%: deploy/setup.sh pyproject.toml setup.py
	@EXTRAS=$* deploy/setup.sh

build: .venv/.setup-test
	@$(PYTHON_BIN) setup.py -q build_ext --inplace --parallel $$(nproc)

demo: build
	@$(PYTHON_BIN) -m bench.demo $(A)

test: build
	$(PYTHON_BIN) -m pytest $(T)

bench: build
	@$(PYTHON_BIN) -m bench.run $(A)

lint: .venv/.setup-test .venv/.setup-lint
	ruff check .
	mypy
	cython-lint proxy

debug: .venv/.setup-test
	$(call build-variant,PROXY_DEBUG=1,debug)
	$(call variant,debug) $(call existing,tests/unit tests/golden tests/sim) $(T)

asan: .venv/.setup-test
	$(call build-variant,PROXY_ASAN=1 PROXY_DEBUG=1,asan)
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(call variant,asan,$(asan-env)) $(call existing,tests/unit tests/golden tests/fuzz) $(T)

clean:
	rm -rf build *.egg-info
	find proxy -name '*.so' -delete
	find proxy -name '_*.c' -delete
