# The few words of this project. Each sets up what it lacks first: tools/setup is quick when there is nothing to do.
#
#   make demo              the main job, on this machine, with throw-away keys: answer on the page that it prints
#   make demo ANSWER=auto  the same unattended; exit 0 only if the right password came out
#   make test              the tests; make test-slow: those that must really wait
#   make check             format, lint, types, import layers
#   make bench             what it costs, as ratios measured in one run
#   make pam               the PAM module of logins, into dist/; "make fuzz" gives its reader ten million packets
#   make deb               the Debian package, for this machine's /usr/bin/python3, into dist/
#   make release           all files of a release and their checksums, into dist/ (docs/releasing.md)
#   make lock              renew the lock files of packaging/
#   make clean             forget the virtual environment and all that was built
#
# PYTHON=/path/to/python3 chooses the interpreter of .venv, PORT=8421 the port of the demo, JOBS=4 the test workers,
# ARCH=arm64 another processor for module and package; REHEARSE=1 lets "make release" build what is none yet.

# Most of these tests wait for other programs rather than compute: two workers more than there are cores.
JOBS ?= $(shell expr $$(nproc) + 2)
BIN := .venv/bin
BUILD := .make/build/bin

.PHONY: help demo test test-slow check bench pam fuzz deb release lock clean
.NOTPARALLEL:

help:
	@sed -n 's/^#   //p' Makefile

demo:
	@tools/setup demo
	@$(BIN)/python tools/demo.py

# maxschedchunk: the long waits are sorted first (tests/conftest.py), so no worker may hoard them.
test:
	@tools/setup test
	@$(BIN)/pytest -n $(JOBS) --maxschedchunk=1 -m "not slow"

test-slow:
	@tools/setup test
	@$(BIN)/pytest -n $(JOBS) --maxschedchunk=1 -m slow

check:
	@tools/setup test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q --durations=0 tests/test_layers.py

bench:
	@tools/setup bench
	@PYTHONPATH=tests $(BIN)/python tools/bench.py
	@PYTHONPATH=tests $(BIN)/python tools/bench_key.py
	@PYTHONPATH=tests $(BIN)/python tools/bench_card.py
	@PYTHONPATH=tests $(BIN)/python tools/bench_matrix.py
	@PYTHONPATH=tests $(BIN)/python tools/bench_pam.py

pam:
	@tools/setup pam
	@python3 tools/pam_module.py $(if $(ARCH),--architecture=$(ARCH))

fuzz:
	@tools/setup test
	@$(BIN)/pytest -s -m slow tests/test_pam_fuzz.py

deb:
	@tools/setup deb
	@$(BUILD)/python tools/deb.py $(if $(ARCH),--architecture=$(ARCH))

release:
	@tools/setup deb
	@$(BUILD)/python tools/release.py $(if $(REHEARSE),--rehearse)

lock:
	@tools/setup deb
	@$(BUILD)/python tools/lock.py

clean:
	rm -rf .venv .make .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
