# make install   .venv/bin/cfr, with the versions of constraints.txt
# make demo      install, make pairs from the bundled photographs, draw the contact sheet
# make test      install what the tests need, run them        make test-all   with the long ones
# make lint      style checks                                 make clean      remove what was built
# Another interpreter: make install PYTHON=/path/to/python3.11. Another place: VENV=/path.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check
PYTEST = $(VENV)/bin/python -m pytest -n 2 --dist loadfile

.PHONY: install install-test install-pyrender demo test test-all lint clean

install: $(VENV)/.installed
install-test: $(VENV)/.installed-test
install-pyrender: $(VENV)/.installed-pyrender

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cfr needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

# The stamps are older than these files when something has to be installed again.
$(VENV)/.installed: setup.py pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

$(VENV)/.installed-pyrender: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[pyrender]'
	@touch $@

demo: install
	$(VENV)/bin/cfr demo

test: install-test
	$(PYTEST) -m "not slow"

test-all: install-test
	$(PYTEST)

lint: install-test
	$(VENV)/bin/ruff check .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis cfr-demo
