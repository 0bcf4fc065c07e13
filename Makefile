# Needs Python 3.11 or newer and make; everything else is put into .venv from locked, hashed requirements.

PYTHON ?= $(firstword $(foreach python,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(python) -c 'import sys; sys.version_info >= (3, 11) and print("$(python)")' 2>/dev/null)))
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command 'make lock' pyproject.toml

RESOLVE := $(BIN)/uv pip compile --quiet --no-header --no-emit-index-url --no-annotate --extra report pyproject.toml
TOOL := $(BIN)/uv tool run --quiet --from
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' service/__init__.py)
ENGINE = $(shell docker info >/dev/null 2>&1 && echo docker || command -v buildah)
PYTEST := -m pytest --numprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help run example example-report test test-all test-oldest test-newest test-browser faults bench bench-quick check check-deploy audit release lock clean

help: ## Say what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' $(MAKEFILE_LIST) | expand -t 18

run: .venv/run.stamp ## Start the service with a stand-in for Clerk and print where its page is (ARGS="--port 9000")
	@exec $(BIN)/python -m service sandbox $(ARGS)

example-report: .venv/test.stamp ## Report the logouts in docs/sample.jsonl.gz (ARGS="--html report.html" or --json)
	@$(BIN)/python -m service report docs/sample.jsonl.gz $(ARGS)

test: .venv/test.stamp ## Run the tests, below 3 minutes on 2 cores (ARGS="-k logout" runs some)
	@$(BIN)/python $(PYTEST) -m 'not fault and not slow and not browser' $(ARGS)

test-all: .venv/test.stamp ## Run the slow tests too, with full branch coverage demanded, then browser and quick fault tests
	@$(BIN)/python -m coverage erase
	@HYPOTHESIS_PROFILE=full $(BIN)/python -m coverage run $(PYTEST) -m 'not fault and not browser'
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report
	@$(MAKE) --no-print-directory test-browser || { echo 'once more what failed, without the rest beside it:'; \
		$(MAKE) --no-print-directory test-browser ARGS=--last-failed; }
	@$(BIN)/python -m pytest -m 'fault and not slow'

test-oldest: .venv-oldest/stamp ## Run `make test` with the oldest dependencies that pyproject.toml allows
	@.venv-oldest/bin/python $(PYTEST) -m 'not fault and not slow and not browser' $(ARGS)

test-newest: .venv-newest/stamp ## Run `make test` with the newest dependencies that pyproject.toml allows
	@.venv-newest/bin/python $(PYTEST) -m 'not fault and not slow and not browser' $(ARGS)

test-browser: .venv/test.stamp ## Run the Next.js example in Chromium, about 6 minutes (needs node, npm and chromium)
	@$(BIN)/python -m pytest -m browser -rs $(ARGS)

example: .venv/test.stamp ## Start the Next.js example with the service and a stand-in for Clerk (needs node and npm)
	@exec $(BIN)/python -m tests.browser.example

faults: .venv/test.stamp ## Break everything on purpose, under 20 minutes (ARGS="-k sigkill" runs some)
	@$(BIN)/python -m pytest tests/faults $(ARGS)

bench: .venv/test.stamp ## Measure against other stacks with wrk and node, 16 minutes, into tests/benchmarks/RESULTS.md
	@$(BIN)/python -m tests.benchmarks $(ARGS)

bench-quick: .venv/test.stamp ## The same contenders and ratios only, below 2 minutes; writes nothing
	@$(BIN)/python -m tests.benchmarks --quick $(ARGS)

check: .venv/test.stamp ## ruff, mypy, import directions, and whether the locks are current
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@lock=$$(mktemp -d) && trap 'rm -r "$$lock"' EXIT && cp deploy/requirements.txt "$$lock/run" && cp tests/requirements.txt "$$lock/test" \
		&& $(COMPILE) -o "$$lock/run" && $(COMPILE) --extra report --group test --constraint "$$lock/run" -o "$$lock/test" \
		&& diff -u deploy/requirements.txt "$$lock/run" && diff -u tests/requirements.txt "$$lock/test" \
		&& echo 'the locks are current'

check-deploy: .venv/test.stamp ## Hold deploy/ to hadolint, the Compose schema, kustomize, Kubernetes' schemas and checkov
	@.ci/check-deploy

audit: .venv/test.stamp ## Look the locked versions up among the known vulnerabilities; fails where these cannot be reached
	@$(TOOL) pip-audit==2.10.1 pip-audit --strict --progress-spinner off --disable-pip --require-hashes -r deploy/requirements.txt

release: .venv/test.stamp ## Build the wheel, its SBOM and the image (BASE=python:3.13-slim@sha256:... pins the image's base)
	@rm -rf dist
	@$(BIN)/uv build --quiet --wheel --no-build-isolation --out-dir dist
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-release
	@$(BIN)/uv pip install --quiet --python .venv-release --require-hashes --only-binary :all: -r deploy/requirements.txt
	@$(BIN)/uv pip check --quiet --python .venv-release
	@$(BIN)/uv pip install --quiet --python .venv-release --no-deps dist/*.whl
	@$(TOOL) cyclonedx-bom==7.5.0 cyclonedx-py environment --output-reproducible \
		-o dist/clerk-logout-$(VERSION).cdx.json .venv-release
	@test -n '$(ENGINE)' || echo 'no image: neither docker nor buildah is here'
	@test -z '$(ENGINE)' || BUILDAH_FORMAT=docker $(ENGINE) build $(ARGS) $(if $(BASE),--build-arg BASE=$(BASE)) \
		--build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) -f deploy/Dockerfile -t clerk-logout:$(VERSION) .
	@ls dist

lock: ## Bring the locks in line with pyproject.toml (ARGS=--upgrade takes the newest versions)
	@test -x $(BIN)/uv || $(MAKE) .venv/test.stamp
	@$(COMPILE) $(ARGS) -o deploy/requirements.txt
	@$(COMPILE) $(ARGS) --extra report --group test --constraint deploy/requirements.txt -o tests/requirements.txt

clean: ## Remove .venv* and what tools left behind
	@rm -rf .venv .example .venv-oldest .venv-newest .venv-release dist tests/benchmarks/node/node_modules tests/clerk/node/node_modules tests/deploy/node/node_modules .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or newer is needed; name it with: make PYTHON=/path/to/python3' >&2; exit 1; }
	@echo 'creating .venv with $(PYTHON) (once)'
	@$(PYTHON) -m venv .venv || { echo 'this Python lacks venv; on Debian: apt-get install python3-venv' >&2; rm -rf .venv; exit 1; }

.venv/run.stamp: deploy/requirements.txt | $(BIN)/python
	@echo 'installing what the service needs (once, about a minute)'
	@$(PIP) -r $<
	@touch $@

.venv/test.stamp: tests/requirements.txt | $(BIN)/python
	@echo 'installing what the tests need (once, about a minute)'
	@$(PIP) -r $<
	@touch $@

.venv-oldest/stamp: RESOLUTION := lowest-direct
.venv-newest/stamp: RESOLUTION := highest
# The service's dependencies as the resolution wants them; the tools of the tests as locked, where that goes together.
.venv-%/stamp: pyproject.toml tests/requirements.txt | .venv/test.stamp
	@echo 'creating .venv-$* (once, about a minute)'
	@$(BIN)/uv venv --quiet --clear --seed --python $(BIN)/python .venv-$*
	@$(RESOLVE) --upgrade --resolution $(RESOLUTION) -o .venv-$*/service.txt
	@cp tests/requirements.txt .venv-$*/tests.txt
	@$(RESOLVE) --group test --constraint .venv-$*/service.txt -o .venv-$*/tests.txt
	@$(BIN)/uv pip install --quiet --python .venv-$*/bin/python -r .venv-$*/tests.txt
	@touch $@
