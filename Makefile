# `make demo` and `make test` need nothing but Python 3.11 to 3.13: they set up .venv by themselves.
# The first that runs: a name on the PATH may be a shim without an interpreter behind it.
SUITABLE := import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13; do \
	$$p -c '$(SUITABLE)' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= 2

# tensorflow-addons has wheels for Python 3.9 to 3.11 only.
OLD := import sys, venv; sys.exit(not (3, 9) <= sys.version_info[:2] < (3, 12))
REFERENCE_PYTHON ?= $(shell for p in python3 python3.11 python3.10 python3.9; do \
	$$p -c '$(OLD)' 2>/dev/null && echo $$p && break; done)
REFERENCE := .venv-reference
RECORDED := build/reference

# Colab's Python if there is one: on the PATH, of uv, of pyenv; else that of .venv.
OLDEST := .venv-oldest
OLDEST_PYTHON ?= $(shell for p in python3.13 "$$(uv python find 3.13 2>/dev/null)" \
	"$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.13.*/bin/python "$(PYTHON)"; do \
	"$$p" -c '$(SUITABLE)' 2>/dev/null && echo "$$p" && break; done)
OLDEST_TESTS ?= tests/methods/test_contract.py tests/verbs/test_export.py tests/server tests/client

.PHONY: demo bench-quality gpu-check faults soak notebooks check chromium test test-app test-deployment reference oldest lint docs package clean setup
.DEFAULT_GOAL := setup

setup: $(READY)

$(READY): setup.py pyproject.toml
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(SUITABLE)' || { \
		echo "tfface needs Python 3.11 to 3.13 with venv; name one with make PYTHON=..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/python -m tfface.demo --out runs/demo

# About forty minutes on two CPU cores; runs in runs/bench are used again.
bench-quality: $(READY)
	$(BIN)/python benchmarks/quality.py

# About an hour: kills trainings, fills disks, damages files; writes docs/faults.md.
faults: $(READY)
	$(BIN)/python benchmarks/faults.py

# Ten minutes on a GPU, or what a CPU can check: build/gpu-check.md.
gpu-check: $(READY)
	$(BIN)/python benchmarks/gpu_check.py

# Ten minutes of good, bad, slow and hostile callers: docs/serving.md.
soak: $(READY)
	$(BIN)/python benchmarks/soak.py

PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadscope --no-loadscope-reorder

# For the day: lint, and all tests that neither train nor export nor serve nor start processes.
check: lint
	$(PYTEST) -m "not slow" tests

test: lint
	$(PYTEST) --durations=10 --durations-min=1 --nbmake tests notebooks

# Runs the notebooks as they are, about an hour and a half on two CPU cores (TFFACE_TINY=1: minutes,
# with pictures that mean nothing), in the order of their names: some use what those before have trained.
# With TFFACE_RUNS=$PWD/runs/bench (an absolute folder) they find what bench-quality has trained, and take half an hour.
READABLE := build/notebooks

notebooks: $(READY)
	rm -rf $(READABLE) && mkdir -p $(READABLE) && cp notebooks/*.ipynb $(READABLE)
	$(BIN)/python -m nbconvert --to html --execute --ExecutePreprocessor.timeout=-1 $(READABLE)/*.ipynb

# Needs nginx, Node.js with npm, kubectl and package registries; see serving/README.md.
DEPLOYMENT := build/deployment
NODE := serving/clients/node

test-deployment: $(READY) $(DEPLOYMENT)/.ready $(NODE)/node_modules
	$(BIN)/python -m pytest serving/tests

$(DEPLOYMENT)/.ready: serving/tests/requirements.txt
	$(PYTHON) -m venv $(DEPLOYMENT)
	$(DEPLOYMENT)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@# Only for the schema of compose files that is in it.
	$(DEPLOYMENT)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps docker-compose==1.29.2
	@touch $@

$(NODE)/node_modules: $(NODE)/package-lock.json
	@command -v npm >/dev/null || { echo "make test-deployment needs npm (Node.js 18 or newer)" >&2; exit 2; }
	npm ci --prefix $(NODE) --no-audit --no-fund
	@touch $@

# Uses the page of tfface.app in headless Chromium, as a person would. Needs Chromium and a package
# registry. Has an environment of its own, as Gradio needs other versions, such as Pillow before 13.
# Screenshots: build/screenshots.
APP := build/app
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

chromium:
	@test -x "$(CHROMIUM)" || { echo "make test-app needs Chromium (Debian: apt install chromium);" \
		"name it with make test-app CHROMIUM=..." >&2; exit 2; }

test-app: chromium $(APP)/.ready
	CHROMIUM="$(CHROMIUM)" $(APP)/bin/python -m pytest tests-app

$(APP)/.ready: setup.py tests-app/requirements.txt
	$(PYTHON) -m venv $(APP)
	$(APP)/bin/python -m pip install --quiet --disable-pip-version-check \
		--editable '.[app,serving,align]' -r tests-app/requirements.txt
	@touch $@

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# build/docs/index.html; warnings are errors, and so are links that lead nowhere within the
# repository. Links to other sites are not checked. Runs the pages' examples first.
docs: $(READY) $(VENV)/.ready-docs
	$(BIN)/python -m pytest -m "not slow" tests/repository/test_docs.py
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d build/doctrees docs build/docs
	@echo "build/docs/index.html"

$(VENV)/.ready-docs: setup.py $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

# Builds dist/, installs the wheel into a new environment and edits a face outside of the checkout.
# Needs a package registry.
package: $(READY)
	$(BIN)/python tests/repository/package.py

# Exports and layers in TensorFlow 2.15 and beside tensorflow-addons: docs/reference.md.
reference: $(READY) $(REFERENCE)/.ready
	rm -rf $(RECORDED)
	$(BIN)/python tests/reference/record.py $(RECORDED)
	$(REFERENCE)/bin/python tests/reference/compare.py $(RECORDED)

$(REFERENCE)/.ready:
	@test -n "$(REFERENCE_PYTHON)" && $(REFERENCE_PYTHON) -c '$(OLD)' || { \
		echo "make reference needs Python 3.9, 3.10 or 3.11 with venv for tensorflow-addons;" \
		"name one with make reference REFERENCE_PYTHON=..." >&2; exit 2; }
	$(REFERENCE_PYTHON) -m venv --clear $(REFERENCE)
	$(REFERENCE)/bin/python -m pip install --quiet --disable-pip-version-check \
		tensorflow-cpu==2.15.1 tensorflow-addons==0.23.0 'numpy<2'
	@touch $@

# The oldest supported versions, which are Colab's: docs/versions.md. ARGS="-m 'not slow'": the quick ones.
oldest: $(OLDEST)/.ready
	$(OLDEST)/bin/python -m pytest -n $(JOBS) --dist loadscope --no-loadscope-reorder $(OLDEST_TESTS) $(ARGS)
	@$(OLDEST)/bin/python -V
	@$(OLDEST)/bin/python -m pip freeze --disable-pip-version-check | \
		grep -iE '^(tensorflow|keras|protobuf|grpcio|numpy)'

$(OLDEST)/.ready: setup.py tests/oldest.txt
	@test -n "$(OLDEST_PYTHON)" && "$(OLDEST_PYTHON)" -c '$(SUITABLE)' || { \
		echo "make oldest needs Python 3.13, or 3.11 to 3.12, with venv;" \
		"name one with make oldest OLDEST_PYTHON=..." >&2; exit 2; }
	"$(OLDEST_PYTHON)" -m venv --clear $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint tests/oldest.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) $(REFERENCE) $(OLDEST) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
