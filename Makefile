# Every command of the project: `make` lists them. ARGS="…" is handed on to what a command runs.
BIN := .venv/bin
PYTHON ?= $(or $(wildcard $(BIN)/python),python3)
INSTALLED := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Other commands than `make services` name the Debian packages that are missing, and stop.
export INSTALL_DEBIAN_PACKAGES := $(or $(CI),$(filter services,$(MAKECMDGOALS)))
# Without bytecode each worker of pytest compiles its plugins again, which takes a second.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install services vendor screenshots run test test-fast test-all test-near test-budget test-times test-long histories soak coverage mutants lint lint-code lint-types lint-console lint-api lint-generated lint-language lint-texts lint-docs format docs generate configuration inventory sources client observability pushed-rules drill drill-short image image-build image-test bench bench-scale bench-one-caller bench-import bench-stream bench-console slow-clients wheel chart sbom api-diff actionlint lock clean

## Every day

help: ## List these commands
	@awk -F ':.*## ' '/^## / { printf "\n%s\n", substr($$0, 4) } /^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Put the service and the development tools into .venv (PYTHON=python3.13 picks the Python)

# PYTHON=… makes .venv again if it has another Python. Without PYTHON, .venv keeps its Python.
python_version = $(shell $(1) -c 'import sys; print(*sys.version_info[:2])' 2>/dev/null)
ifneq ($(origin PYTHON),file)
ifneq ($(call python_version,$(PYTHON)),$(call python_version,$(BIN)/python))
.PHONY: $(INSTALLED)
CLEAR := --clear
endif
endif

# A line for each 20 packages. mawk and sed would keep them until the end.
PIP_PROGRESS = while read -r what rest; do case $$what in \
	Collecting) n=$$((n + 1)); [ $$((n % 20)) != 0 ] || echo "  found $$n of $$(grep -c == requirements-dev.txt)" ;; \
	Installing) echo '  unpacking' ;; esac; done

# The build backend comes from the lock too, so that nothing unpinned is fetched.
$(INSTALLED): pyproject.toml requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or newer is needed: name one with `make PYTHON=…`' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		.ci/debian-packages "$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
	@echo "Creating .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(CLEAR) .venv
	@echo 'Installing packages, which takes minutes the first time'
	@{ $(PIP) install --require-hashes -r requirements-dev.txt || touch .venv/.failed; } | { $(PIP_PROGRESS); }; ! rm .venv/.failed 2>/dev/null
	@echo 'Installing the service'
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

NODE_PACKAGES := node_modules/.package-lock.json

$(NODE_PACKAGES): package.json package-lock.json
	@command -v npm >/dev/null 2>&1 || .ci/debian-packages nodejs npm
	@echo 'Installing npm packages into node_modules'
	@npm ci --silent
	@touch $@

services: install $(NODE_PACKAGES) ## Install the Debian and npm packages, helm and kubectl that tests need, where they are missing
	@missing=; have() { command -v "$$1" >/dev/null 2>&1; }; \
	have redis-server || missing="$$missing redis-server"; \
	have valkey-server || missing="$$missing valkey-server"; \
	have initdb || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$$missing postgresql"; \
	PATH="$$PATH:/usr/sbin" have pgbouncer || missing="$$missing pgbouncer"; \
	PATH="$$PATH:/usr/sbin" have haproxy || missing="$$missing haproxy"; \
	PATH="$$PATH:/usr/sbin" have nginx || missing="$$missing nginx-light"; \
	ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || missing="$$missing libfaketime"; \
	have promtool || missing="$$missing prometheus"; \
	have amtool || missing="$$missing prometheus-alertmanager"; \
	have victoria-metrics || missing="$$missing victoria-metrics"; \
	have chromium-headless-shell || missing="$$missing chromium-headless-shell"; \
	[ -z "$$missing" ] || .ci/debian-packages $$missing
	@$(BIN)/python .ci/kubernetes_tools.py

run: install ## Start the service with simulated upstream services and sample cases on 127.0.0.1:8000 (PORT=9000 takes another port)
	@$(BIN)/support-service demo $(if $(PORT),--port $(PORT)) $(ARGS)

# Most tests wait for servers and processes, so that more workers than cores finish sooner.
PYTEST = $(BIN)/pytest --dist worksteal $(if $(SEED),--randomly-seed=$(SEED))
TEST = nice -n 19 $(PYTEST) -n 4 --durations 25
DRILL_SHORT = DRILL_TIME=25 $(BIN)/pytest tests/e2e/drill/short.py

# The short drill depends on seconds of real time. It mostly waits, and the other tests leave it the CPU when it needs some.
define WITH_DRILL
@mkdir -p build; $(DRILL_SHORT) > build/drill-short.log 2>&1 & drill=$$!; \
	failed=0; $(TEST) --all || failed=1; \
	wait $$drill || failed=1; echo; echo "The short drill:"; cat build/drill-short.log; \
	exit $$failed
endef

test: install services ## Run the tests in random order (SEED=1 repeats an order, ARGS="-k timeline" picks some)
	@mkdir -p build
	$(TEST) $(or $(ARGS),--costs=build/costs.json)

test-fast: install ## Run the tests that need nothing but SQLite, in one to two minutes
	$(PYTEST) -n 3 tests/unit tests/app $(ARGS)

test-near: install services ## Run the tests that run what has changed since HEAD, or in a clean tree since main, within a minute (ARGS=--record first, ARGS=--help)
	@$(BIN)/python -m tests.near $(ARGS)

test-budget: install ## Compare what the last `make test` cost with tests/budget.toml, and fail if it cost more
	@$(BIN)/python -m tests.budget $(ARGS)

test-all: install services ## Run every test, also long ones, and the short drill
	$(WITH_DRILL)

lint: lint-code lint-types lint-console lint-api lint-generated lint-language lint-texts lint-docs ## Check format, lint rules, types, imports, dependencies, the API, generated files, language and links (make -j2 is faster)

lint-code: install
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports
	$(BIN)/deptry src
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive src
	$(BIN)/zizmor --quiet --offline .github

lint-types: install
	$(BIN)/mypy

lint-console: install $(NODE_PACKAGES)
	$(BIN)/python .ci/vendor.py --check
	node_modules/.bin/tsc --project .

API := build/api
DESCRIBE_API = SUPPORT_AUTH=token SUPPORT_TOKENS_FILE=/dev/null $(BIN)/python -m support_service openapi

# Linters and a client generator read the descriptions of the API, and send nothing. Each runs again only if its input has
# changed: a description that is the same as before keeps its time.
lint-api: $(API)/redocly.passed $(API)/spectral.passed $(API)/client.passed

$(API)/openapi-open.json: DESCRIBE = SUPPORT_AUTH=open $(BIN)/support-service openapi
$(API)/openapi.json: DESCRIBE = $(DESCRIBE_API)
$(API)/asyncapi.json: DESCRIBE = $(BIN)/support-service asyncapi
$(API)/openapi-open.json $(API)/openapi.json $(API)/asyncapi.json: install
	@mkdir -p $(API)
	$(DESCRIBE) > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(API)/redocly.passed: $(API)/openapi.json $(API)/openapi-open.json .ci/redocly.yaml $(NODE_PACKAGES) Makefile
	REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true \
		node_modules/.bin/redocly lint --config .ci/redocly.yaml $(API)/openapi.json $(API)/openapi-open.json
	@touch $@

$(API)/spectral.passed: $(API)/openapi.json $(API)/asyncapi.json .ci/spectral.yaml $(NODE_PACKAGES) Makefile
	node_modules/.bin/spectral lint --quiet --ruleset .ci/spectral.yaml --fail-severity hint $(API)/openapi.json $(API)/asyncapi.json
	@touch $@

$(API)/client.passed: $(API)/openapi.json $(INSTALLED) Makefile
	PATH="$(CURDIR)/$(BIN):$$PATH" openapi-python-client generate --meta none --fail-on-warning --overwrite \
		--path $(API)/openapi.json --output-path $(API)/client
	$(BIN)/python -m compileall -q $(API)/client
	@touch $@

api-diff: $(API)/openapi.json ## Print what differs in the description of the API from a commit (BASE=main)
	@rm -rf build/api-base && mkdir -p build/api-base
	@git archive $(or $(BASE),main) src | tar --extract --directory build/api-base
	@PYTHONPATH=build/api-base/src $(DESCRIBE_API) > build/api-base/openapi.json
	@diff --unified --show-function-line='^    "/' build/api-base/openapi.json $(API)/openapi.json || [ $$? = 1 ]

lint-generated: install
	$(BIN)/support-service openapi --check
	$(BIN)/python docs/configuration.py --check
	$(BIN)/python docs/data_inventory.py --check
	$(BIN)/python docs/sources.py --check
	$(BIN)/python docs/client_methods.py --check
	$(BIN)/python -m observability.generate --check

lint-language: install
	$(BIN)/python .ci/language.py

# Each rule of pages, dashboards and tables is a test that names the places which break it.
lint-texts: install
	$(BIN)/pytest -n 0 tests/lint

SPHINX = $(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --conf-dir docs

# Resolves every link, and writes no page: writing takes four times as long.
lint-docs: install
	$(SPHINX) --builder dummy . build/links

format: install ## Format the code and apply the safe fixes
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

docs: install ## Build the documentation site in build/docs; a broken link fails
	$(SPHINX) . build/docs

generate: configuration inventory sources client observability ## Write every generated file again

clean: ## Remove .venv, caches and build output; what the service stored in var/ stays
	rm -rf .venv build dist src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

## Minutes to hours

test-times: install services ## Run the tests and print where the time goes: by tier, folder, set-up, file and test (ARGS=--all for every test)
	$(PYTEST) -n 4 --times $(ARGS)

# Not the tests of kills: they trace each line themselves, and a process has one tracer.
coverage: install services ## Run the tests and print the branches of src/ that none takes
	$(PYTEST) -n 4 --timeout 900 --ignore tests/e2e/crash --cov --cov-report term --cov-report html $(ARGS)

mutants: install services ## Change the service in one place at a time, and print the changes that no test notices (ARGS="src/support_service/events --sample 20")
	@$(BIN)/python -m tests.mutants $(ARGS)

test-long: install services ## Run the long forms of tests, minutes each (ARGS="crash stream" picks some, ARGS=--help lists them)
	@$(BIN)/python -m tests.long $(ARGS)

histories: install services ## Check histories of concurrent clients for half an hour, while parts fail (ARGS="--minutes 2 --seed 7", ARGS=--help)
	@$(BIN)/python -m tests.e2e.histories $(ARGS)

soak: install services ## Measure a deployment under load for an hour on each database; nothing may grow (SOAK_SECONDS=300 is shorter)
	@$(BIN)/python -m tests.long soak

drill-short: install services ## Break three things, and check that exactly their alerts arrive and the printed actions end them
	$(DRILL_SHORT) $(ARGS)

drill: install services ## Break a whole deployment in one way after another, and do what the runbooks say (ARGS="--only Redis" picks some, ARGS=--daily takes 15 minutes)
	@$(BIN)/python -m tests.e2e.drill $(ARGS)

VERSION = $(shell sed -n 's/^__version__ = "\([^"]*\)".*/\1/p' src/support_service/__init__.py)

# In namespaces of their own, so that no mount outlasts the commands.
image: image-build image-test ## Build the container image as root, and test it (PULL=1 takes the base image from its registry)

image-build: install # from Debian's packages, or with PULL=1 from a registry
	@reason=$$(.ci/image/possible) || { echo "The image cannot be built here: $$reason" >&2; exit 1; }
	@unshare --mount .ci/image/build support-service:$(VERSION) $(if $(PULL),--pull)

image-test: install
	unshare --mount $(BIN)/pytest -p no:randomly tests/e2e/image/contents.py tests/e2e/image/running.py $(ARGS)

wheel: install ## Build the wheel in dist/, and take the tour of the README where nothing else is installed
	rm -rf dist build/lib build/wheel
	$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	$(PYTHON) -m venv --without-pip build/wheel
	$(PIP) --python build/wheel/bin/python install --quiet --require-hashes -r requirements.txt
	$(PIP) --python build/wheel/bin/python install --quiet --no-deps dist/*.whl
	build/wheel/bin/support-service --version
	TOUR_PYTHON=$(CURDIR)/build/wheel/bin/python $(BIN)/pytest -n 0 tests/e2e/demo/test_readme.py

chart: install ## Package the Helm chart in dist/ (IMAGE=registry.example/support-service is the image that it installs)
	@$(BIN)/python .ci/kubernetes_tools.py
	.ci/chart dist $(IMAGE)

sbom: wheel ## List the packages of the wheel's environment in dist/sbom.cdx.json, as CycloneDX
	$(BIN)/cyclonedx-py environment --output-file dist/sbom.cdx.json build/wheel/bin/python

## Benchmarks

bench: install services ## Measure the service beside a bare server, a floor and a FastAPI service (ARGS=--help lists the options)
	@$(BIN)/python -m benchmarks $(ARGS)

bench-scale: install services ## Measure lists and searches with a million cases (ARGS="--databases sqlite --cases 40000" is shorter)
	@$(BIN)/python -m benchmarks.scale $(ARGS)

bench-one-caller: install services ## Measure one agent while another searches and counts without a pause
	@$(BIN)/python -m benchmarks.one_caller $(ARGS)

bench-stream: install ## Measure reads beside 5,000 open streams, and the memory of each stream
	@$(BIN)/python -m benchmarks.streams $(ARGS)

bench-import: install services ## Measure the import, and the API beside it (ARGS="--cases 5000 --api-cases 500" is shorter)
	@$(BIN)/python -m benchmarks.import_rate $(ARGS)

bench-console: install services ## Measure the console in a browser with a slow CPU, against its budget
	@$(BIN)/python -m benchmarks.console $(ARGS)

slow-clients: install ## Measure regular clients beside slow connections, or memory (ARGS=--unread)
	@$(BIN)/python -m benchmarks.slow_clients $(ARGS)

## Now and then

configuration: install ## Write docs/configuration.md and the chart's settings.json again, from the settings
	$(BIN)/python docs/configuration.py

inventory: install ## Write docs/operations/data-inventory.md again, from the fields and the columns
	$(BIN)/python docs/data_inventory.py

sources: install ## Write docs/api/sources.md again, from the declarations of the sources
	$(BIN)/python docs/sources.py

client: install ## Write the client's methods and parameters again, from the routes
	$(BIN)/python docs/client_methods.py

observability: install ## Write rules, their tests, dashboards, lists of alerts and the catalogue of metrics again, from their tables
	$(BIN)/python -m observability.generate

pushed-rules: install ## Write the rules for metrics that replicas push, build/pushed-rules.yaml
	@mkdir -p build
	@$(BIN)/python -m observability.rules > build/pushed-rules.yaml

screenshots: install services ## Render pictures of the console from the demo: the README's, and a sheet of all pages for a review
	$(BIN)/python docs/screenshots.py

# Built with the locked setuptools, and without the unlocked packages that its sources ask for besides.
actionlint: install ## Check the workflows of .github/ with actionlint, which comes from GitHub
	rm -rf build/actionlint
	$(PIP) wheel --quiet --no-deps --no-build-isolation --require-hashes --wheel-dir build/actionlint -r .ci/actionlint.lock
	$(PYTHON) -m venv --without-pip build/actionlint
	$(PIP) --python build/actionlint/bin/python install --quiet --no-deps build/actionlint/*.whl
	build/actionlint/bin/actionlint

vendor: $(NODE_PACKAGES) ## Copy the console's npm packages into the repository, with a manifest
	$(PYTHON) .ci/vendor.py

COMPILE = uv pip compile --quiet --no-strip-extras --universal --generate-hashes --python-version 3.11 \
	--custom-compile-command 'make lock' $(ARGS)
BUILD_BACKEND = import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")

lock: ## Write both lock files again (ARGS=--upgrade takes newer versions)
	@PATH="$(CURDIR)/$(BIN):$$PATH"; command -v uv >/dev/null || \
		{ echo 'uv is needed: `make install` brings it into .venv' >&2; exit 1; }; \
	set -ex; $(COMPILE) pyproject.toml -o requirements.txt; \
	$(PYTHON) -c '$(BUILD_BACKEND)' | \
		$(COMPILE) pyproject.toml - --all-extras --constraints requirements.txt -o requirements-dev.txt
