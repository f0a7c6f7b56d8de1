# The first run of a target sets up the environments that the target needs, in this folder.
.DEFAULT_GOAL := help
.PHONY: help demo up put-event request invoke test coverage test-deployed test-dynalite mutants soak bench bench-copy bench-list bench-backfill bench-capacity bench-page package plain-package check check-code check-types check-template check-documents audit reference screenshots format lock build deploy release clean

PYTHON ?= python3
RUNTIME ?= python3.13
DEPLOYED_PYTHON ?= $(RUNTIME)
ARCHITECTURE ?= arm64
PORT ?= 0
REALTIMEKIT_PORT ?= 0
SPEED ?= 1
SIZES ?= 64,1024,4096
WORKERS ?= 4
RECORDINGS ?= 20000
A_DAY ?= 150000
MINUTES ?= 20
BURST ?= 2000
ROUNDS ?= 5
SEED ?= 1
MEETINGS ?= 2000
MODULE ?= worklist
CONFIG_ENV ?= default

# Without bytecode on disk, each of the many processes that the tests start compiles all its libraries.
unexport PYTHONDONTWRITEBYTECODE
export SAM_CLI_TELEMETRY := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

UV := .venv-uv/bin/uv
LOCAL := .venv/.local
TESTS := .venv/.tests
SAM := .venv-sam/.ready
RIC := .venv-runtime/.ready
SECURITY := .venv-security/.ready
MUTANTS := .venv-mutants/.ready
DEPLOYED := .venv-deployed/.ready
DYNALITE := .local/dynalite/node_modules/dynalite/cli.js
# `sam deploy --guided` saves its answers here. They include the account's ID, so git ignores the file.
DEPLOYMENTS := samconfig.local.toml
# sam finds uv by its name on the PATH. uv refuses to install a package without a hash.
SAM_BUILD := PATH="$(CURDIR)/.venv-sam/bin:$$PATH" UV_REQUIRE_HASHES=1 sam build
PACKAGE := .local/build/.ready
PACKAGE_SOURCES := template.yaml samconfig.toml requirements.txt local/package.py local/bytecode.py \
	local/template.py $(shell find functions -type f ! -path '*/__pycache__/*')
# Only tests that use the package need it built. Other selected tests start without it.
USE_PACKAGE := tests tests/ tests/e2e% tests/test_package%
PACKAGE_FOR_TESTS := $(if $(filter-out $(USE_PACKAGE),$(filter tests%,$(ARGS))),$(if \
	$(filter $(USE_PACKAGE),$(ARGS)),$(PACKAGE)),$(PACKAGE))
COMPILE := $(UV) pip compile --quiet --upgrade --universal --generate-hashes \
	--python-version 3.11 --no-python-downloads --custom-compile-command "make lock"

help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(LOCAL) ## Show a recording being catalogued and archived (needs no AWS account, no Docker)
	@.venv/bin/python -m local.demo

up: $(LOCAL) ## Run the local stack until Ctrl-C [PORT= REALTIMEKIT_PORT= SPEED= PARAMETERS="RetentionDays=30"]
	@.venv/bin/python -m local up --port $(PORT) --realtimekit-port $(REALTIMEKIT_PORT) --speed $(SPEED) \
		$(foreach parameter,$(PARAMETERS),--parameter '$(parameter)')

# These variables are passed unexpanded in the environment, so that make and the shell treat a & or a '
# in them as a plain character.
override API_PATH := $(value API_PATH)
override BODY := $(value BODY)
export METHOD API_PATH BODY EVENT FUNCTION

put-event: $(LOCAL) ## Put a sample entry on the event bus of the running stack [EVENT=eventbridge-entry.meeting-ended]
	@.venv/bin/python -m local put-event "$${EVENT:-eventbridge-entry.meeting-ended}"

request: $(LOCAL) ## Send a signed request to the API of the running stack [METHOD=GET API_PATH=/recordings/… BODY=]
	@.venv/bin/python -m local request "$${METHOD:-GET}" "$${API_PATH:-/recordings}" "$${BODY:-}"

invoke: $(LOCAL) ## Invoke a function of the running stack [FUNCTION=follow_up EVENT=follow-up.schedule-tick]
	@.venv/bin/python -m local invoke "$${FUNCTION:-follow_up}" "$${EVENT:-follow-up.schedule-tick}"

# Four workers even on two cores, because many tests wait.
test: $(PACKAGE_FOR_TESTS) $(TESTS) ## Run all tests, or those that ARGS selects [ARGS="-k erased" WORKERS=4]
	@.venv/bin/python -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

# Measuring takes two thirds more time on Python 3.11.
coverage: $(PACKAGE) $(TESTS) ## Run all tests, and list the lines that no test runs
	@.venv/bin/python -m pytest -n $(WORKERS) --dist loadgroup --hypothesis-profile thorough --cov --cov-report=term:skip-covered

TABLE_TESTS := tests/unit/test_worklist.py tests/unit/test_catalogue.py tests/unit/test_listing.py \
	tests/unit/test_interleavings.py tests/functional

test-dynalite: $(TESTS) $(DYNALITE) ## Run the tests that use tables against another DynamoDB (needs Node 20) [ARGS="-k erased"]
	@.venv/bin/python tests/dynalite.py $(DYNALITE) $(TABLE_TESTS) $(ARGS)

mutants: $(MUTANTS) ## List the small faults in a module that its tests do not notice [MODULE=worklist ARGS="*is_urgent*"]
	@.venv-mutants/bin/python tests/mutants.py $(MODULE) $(if $(ARGS),'$(ARGS)')

test-deployed: PYTHON = $(DEPLOYED_PYTHON)
test-deployed: $(DEPLOYED) ## Run the unit and functional tests on the Python that is deployed by default [DEPLOYED_PYTHON=python3.13]
	@.venv-deployed/bin/python -m pytest -n $(WORKERS) --hypothesis-profile quick tests/unit tests/functional

soak: $(TESTS) ## Run the fault tests with many meetings; an odd seed repeats its run exactly [SEED=1 MEETINGS=2000]
	@.venv/bin/python -m pytest tests/faults --timeout 0 --seed $(SEED) --meetings $(MEETINGS)

bench: package plain-package ## Measure cold starts, the cost of a recording, and a page of the list [ROUNDS=5]
	@.venv/bin/python -m bench --rounds $(ROUNDS)

bench-list: package ## Measure a page of the list, with 1,000 and with 100,000 rows
	@.venv/bin/python -m bench.list_page

bench-backfill: package ## Measure a backfill by a sweep and by fetching each recording [RECORDINGS=20000]
	@.venv/bin/python -m bench.backfill --recordings $(RECORDINGS)

bench-capacity: $(TESTS) ## Simulate a steady load and a burst [BESIDE=../other/functions A_DAY=150000 MINUTES=20 BURST=2000]
	@.venv/bin/python -m bench.throughput --a-day $(A_DAY) --minutes $(MINUTES) --burst $(BURST) \
		$(if $(BESIDE),--beside $(BESIDE)) $(ARGS)

bench-page: $(TESTS) ## Measure the first list and 10,000 rows of the catalogue page (needs Chromium)
	@.venv/bin/python -m bench.page

bench-copy: $(TESTS) ## Measure the copy to S3 and three other ways to copy [SIZES=64,1024,4096]
	@.venv/bin/python -m bench.archive_copy --sizes $(SIZES)

# The package that would be deployed, but built for this machine's Python and architecture.
package: $(PACKAGE)

$(PACKAGE): $(PACKAGE_SOURCES) $(TESTS) $(SAM) $(RIC)
	$(call build_here,.local/build)
	@.venv/bin/python -m local.package $(THIS_RUNTIME) $(THIS_ARCHITECTURE) .local/build
	@touch $@

# The package that `sam build` alone makes, for comparison in the bench.
plain-package: $(TESTS) $(SAM)
	$(call build_here,.local/plain)

# With -j2 the parts run beside each other.
check: check-code check-types check-template check-documents ## Check format, lint, types, the template and the documents

check-code: $(TESTS)
	@.venv/bin/ruff format --check --quiet . || { echo "Some files are not formatted. Format them with: make format"; exit 1; }
	@.venv/bin/ruff check --quiet .
	@.venv/bin/codespell

check-types: $(TESTS)
	@.venv/bin/mypy functions realtimekit_recordings realtimekit_simulator local bench tests

EXAMPLES := $(wildcard examples/*/template.yaml)

check-template: $(SAM) $(SECURITY)
	@.venv-sam/bin/sam validate --lint --region us-east-1
	@.venv-sam/bin/cfn-lint --regions us-east-1 --template $(EXAMPLES)
	@CKV_PARSE_ERROR_FAIL=true .venv-security/bin/checkov --file template.yaml --framework cloudformation --quiet --compact --skip-download

check-documents: $(TESTS)
	@.venv/bin/python -m openapi_spec_validator functions/openapi.json
	@.venv/bin/python -m local.reference --check

audit: $(SECURITY) ## Check the dependencies and the deployment tools for known vulnerabilities (queries pypi.org)
	@.venv-security/bin/pip-audit --strict --require-hashes --disable-pip -r requirements.txt -r local/sam-requirements.txt -r local/wheel-requirements.txt

reference: $(TESTS) ## Write docs/reference from the template, the command line and the OpenAPI document
	@.venv/bin/python -m local.reference

screenshots: $(TESTS) ## Make the pictures of the catalogue page in docs/pictures (needs Chromium)
	@.venv/bin/python -m local.screenshots

format: $(TESTS) ## Format the code
	@.venv/bin/ruff check --fix --quiet . ; .venv/bin/ruff format --quiet .

lock: $(UV) ## Update the locks, requirements.txt and two in local/, from their .in files
	@$(COMPILE) --output-file requirements.txt requirements.in
	@$(COMPILE) --output-file local/sam-requirements.txt local/sam-requirements.in
	@$(COMPILE) --output-file local/wheel-requirements.txt local/wheel-requirements.in

build: $(SAM) ## Build the package to deploy, trimmed and with bytecode [RUNTIME= ARCHITECTURE=]
	@.venv-sam/bin/python -m local.package $(RUNTIME) $(ARCHITECTURE)
	@$(SAM_BUILD) --parameter-overrides \
		"ParameterKey=Runtime,ParameterValue=$(RUNTIME) ParameterKey=Architecture,ParameterValue=$(ARCHITECTURE)"
	@.venv-sam/bin/python -m local.package $(RUNTIME) $(ARCHITECTURE) .aws-sam/build

deploy: build ## Build, then deploy to AWS; sam asks for the settings [RUNTIME= ARCHITECTURE= STACK= CONFIG_ENV=]
	@test -f $(DEPLOYMENTS) || cp samconfig.toml $(DEPLOYMENTS)
	@.venv-sam/bin/sam deploy --guided --config-file $(CURDIR)/$(DEPLOYMENTS) --config-env $(CONFIG_ENV) \
		$(if $(STACK),--stack-name $(STACK))

RELEASE := .local/release

release: $(SAM) ## Build the parts of a release in .local/release [TAG=v0.1.0 RUNTIME= ARCHITECTURE=]
	@.venv-sam/bin/python -m local.release check $(if $(TAG),--tag $(TAG))
	@$(MAKE) build
	@rm -rf $(RELEASE)
	@.venv-sam/bin/uv build --quiet --wheel --no-create-gitignore --out-dir $(RELEASE) --python .venv-sam/bin/python \
		--no-python-downloads --build-constraints local/wheel-requirements.txt --require-hashes
	@.venv-sam/bin/python -m local.release finish .aws-sam/build $(RELEASE)

clean: ## Remove all environments, builds and caches
	rm -rf .venv .venv-uv .venv-sam .venv-runtime .venv-security .venv-mutants .venv-deployed .local .aws-sam .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- builds for this machine ---

THIS_RUNTIME = $(shell .venv/bin/python -c "import sys; print('python%d.%d' % sys.version_info[:2])")
THIS_ARCHITECTURE = $(subst aarch64,arm64,$(shell uname -m))

define build_here
	@mkdir -p .local
	@$(SAM_BUILD) --build-dir $(1) --parameter-overrides \
		"ParameterKey=Runtime,ParameterValue=$(THIS_RUNTIME) ParameterKey=Architecture,ParameterValue=$(THIS_ARCHITECTURE)" \
		> $(1).log 2>&1 || { cat $(1).log; exit 1; }
endef

# --- environments ---

NEEDED := Install Python 3.11 or newer with the modules venv and ensurepip \
	(Debian, Ubuntu: apt-get install python3 python3-venv), \
	or choose an interpreter with PYTHON=/path/to/python3.

define require_python
	@command -v $(PYTHON) > /dev/null || { echo "There is no $(PYTHON). $(NEEDED)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11. $(NEEDED)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || \
		{ echo "$(PYTHON) lacks the modules venv and ensurepip. $(NEEDED)"; exit 1; }
endef

# uv sets up the other environments, in a tenth of the time that pip takes.
$(UV): local/sam-requirements.txt
	$(require_python)
	@mkdir -p .local && rm -rf .venv-uv && $(PYTHON) -m venv .venv-uv
	@sed -n '/^uv==/,/# via/p' $< > .local/uv-requirements.txt
	@.venv-uv/bin/pip install --quiet --no-compile --require-hashes -r .local/uv-requirements.txt
	@touch $@

# $(1) is a lock file with every package and its hashes. $(2) is a file with pinned versions only.
define create
	$(require_python)
	@echo "Setting up $(@D) once; this takes some seconds, and longer if packages are downloaded"
	@rm -rf $(@D) && $(UV) venv --quiet --no-project --no-python-downloads --python $(PYTHON) $(@D)
	$(if $(1),@$(INSTALL) --require-hashes --no-deps -r $(1))
	$(if $(2),@$(INSTALL) -r $(2))
	@touch $@
endef

INSTALL = $(UV) pip install --quiet --python $(@D)/bin/python

$(LOCAL): local/requirements.txt requirements.in requirements.txt | $(UV)
	$(call create,requirements.txt,local/requirements.txt)

$(TESTS): tests/requirements.txt $(LOCAL)
	@echo "Setting up $(@D) for tests"
	@$(INSTALL) -r tests/requirements.txt
	@touch $@

$(DEPLOYED): tests/requirements.txt local/requirements.txt requirements.in requirements.txt | $(UV)
	$(call create,requirements.txt,local/requirements.txt)
	@$(INSTALL) -r tests/requirements.txt

$(SAM): local/sam-requirements.txt | $(UV)
	$(call create,local/sam-requirements.txt)

$(RIC): local/runtime-requirements.txt | $(UV)
	$(call create,,local/runtime-requirements.txt)

$(SECURITY): local/security-requirements.txt | $(UV)
	$(call create,,local/security-requirements.txt)

$(MUTANTS): tests/mutants-requirements.txt tests/requirements.txt requirements.txt | $(UV)
	$(call create,requirements.txt,tests/mutants-requirements.txt)

# Its install scripts build a store on disk; the tests' tables are in memory.
$(DYNALITE):
	@npm install --prefix .local/dynalite --no-save --no-audit --no-fund --ignore-scripts --silent dynalite@4.0.0
