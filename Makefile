# On a machine with Python 3.11 to 3.13, `make serve` is all that is needed; `make test` wants Prometheus
# too (`apt-get install prometheus`), or VOCATION_SKIP_PROMETHEUS=1.
PYTHON ?= python3
PORT ?= 3000
HOST ?= 127.0.0.1
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: serve test check lint types imports audit licences unit end-to-end loadtest bento clean

$(INSTALLED): constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 -c constraints.txt -e '.[dev]'
	touch $@

serve: $(INSTALLED)
	@PORT=$(PORT) HOST=$(HOST) exec $(BIN)/vocation serve

# Side by side: services spend much of their tests' time waiting. Each part's output comes whole.
test: $(INSTALLED)
	@$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=target unit end-to-end

check: lint types imports test

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

imports: $(INSTALLED)
	$(BIN)/lint-imports

# Known vulnerabilities of the pins; AUDIT=--required fails where they cannot be looked up.
audit: $(INSTALLED)
	$(BIN)/python -m scripts.audit $(AUDIT)

licences: $(INSTALLED)
	$(BIN)/python -m scripts.licences

unit: $(INSTALLED)
	$(BIN)/pytest -m 'not end_to_end'

end-to-end: $(INSTALLED)
	$(BIN)/pytest -m end_to_end

# SECONDS=600 is the soak; LOADTEST=--untimed judges errors and memory alone.
SECONDS ?= 60
loadtest: $(INSTALLED)
	$(BIN)/python -m loadtests --seconds $(SECONDS) $(LOADTEST)

bento: $(INSTALLED)
	$(BIN)/bentoml build

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
