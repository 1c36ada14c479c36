# make evolve   evolve a harness with the default job; make evolve ARGS="seed=1 rounds=4" passes arguments
# make test     ruff, mypy --strict, and pytest in two processes: a file is one process's, so its fixtures are made once
# make lock     resolve pyproject.toml anew into requirements.lock (the only target that needs uv)
#
# The first two install into .venv what requirements.lock names, by hash, and again only when it changed.
# Needed: git, make and Python 3.11 or newer (PYTHON=… chooses which).

PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11
CHOSEN = $(shell for python in $(PYTHON); do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
INSTALL = .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps

.PHONY: evolve test lock

evolve: .venv/installed
	.venv/bin/python -m aegis.evolve $(ARGS)

test: .venv/installed
	.venv/bin/ruff check
	.venv/bin/mypy
	.venv/bin/pytest --numprocesses 2 --dist loadfile $(ARGS)

# setuptools goes first: it builds what comes as source only, so that the build is locked as well.
.venv/locked: requirements.lock
	$(or $(CHOSEN),$(error Python 3.11 or newer is needed, none of these is: $(PYTHON); name one with PYTHON=…)) \
		-m venv --clear .venv
	sed -n '/^setuptools==/,/[^\\]$$/p' $< > .venv/setuptools.txt
	$(INSTALL) --require-hashes -r .venv/setuptools.txt
	$(INSTALL) --require-hashes --no-build-isolation --use-pep517 -r $<
	touch $@

.venv/installed: pyproject.toml .venv/locked
	$(INSTALL) --no-build-isolation --editable .
	.venv/bin/python -m pip check --disable-pip-version-check
	touch $@

lock:
	echo 'setuptools>=77' | uv pip compile pyproject.toml - --extra dev --universal --python-version 3.11 \
		--generate-hashes --upgrade --no-config --default-index https://pypi.org/simple \
		--custom-compile-command 'make lock' --quiet --output-file requirements.lock
