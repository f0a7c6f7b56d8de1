# The first run of a target sets up what it needs, and only that, in this folder.
.DEFAULT_GOAL := help
.PHONY: help demo up put-event request invoke test test-dynalite mutants soak bench bench-copy bench-list bench-backfill package plain-package check audit format lock build deploy clean

PYTHON ?= python3
RUNTIME ?= python3.13
ARCHITECTURE ?= arm64
PORT ?= 0
REALTIMEKIT_PORT ?= 0
SPEED ?= 1
SIZES ?= 64,1024,4096
WORKERS ?= 4
RECORDINGS ?= 20000
ROUNDS ?= 5
SEED ?= 1
MEETINGS ?= 2000
MODULE ?= worklist
CONFIG_ENV ?= default

export SAM_CLI_TELEMETRY := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

LOCAL := .venv/.local
TESTS := .venv/.tests
SAM := .venv-sam/.ready
RIC := .venv-runtime/.ready
SECURITY := .venv-security/.ready
MUTANTS := .venv-mutants/.ready
DYNALITE := .local/dynalite/node_modules/dynalite/cli.js
# What `sam deploy --guided` is answered, the account's id among it: not in a file that git tracks.
DEPLOYMENTS := samconfig.local.toml
# sam finds uv by name; uv is to install nothing that has no hash.
SAM_BUILD := PATH="$(CURDIR)/.venv-sam/bin:$$PATH" UV_REQUIRE_HASHES=1 sam build
PACKAGE := .local/build/.ready
PACKAGE_SOURCES := template.yaml samconfig.toml requirements.txt local/package.py local/bytecode.py \
	local/template.py $(shell find functions -type f ! -path '*/__pycache__/*')
# Tests that are named, and do not use the package, do not wait for it.
USE_PACKAGE := tests tests/ tests/e2e% tests/test_package%
PACKAGE_FOR_TESTS := $(if $(filter-out $(USE_PACKAGE),$(filter tests%,$(ARGS))),$(if \
	$(filter $(USE_PACKAGE),$(ARGS)),$(PACKAGE)),$(PACKAGE))
COMPILE := .venv-sam/bin/uv pip compile --quiet --upgrade --universal --generate-hashes \
	--python-version 3.11 --no-python-downloads --custom-compile-command "make lock"

help: ## Say what there is
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(LOCAL) ## See it work: a meeting ends, and its recording is catalogued (no AWS account, no Docker)
	@.venv/bin/python -m local.demo

up: $(LOCAL) ## Run the local stack until Ctrl-C [PORT= REALTIMEKIT_PORT= SPEED=]
	@.venv/bin/python -m local up --port $(PORT) --realtimekit-port $(REALTIMEKIT_PORT) --speed $(SPEED)

# By way of the environment, unexpanded: a & or a ' is a character like any other there, to make and
# to the shell.
override API_PATH := $(value API_PATH)
override BODY := $(value BODY)
export METHOD API_PATH BODY EVENT FUNCTION

put-event: $(LOCAL) ## Put a sample entry on the running stack's event bus [EVENT=eventbridge-entry.meeting-ended]
	@.venv/bin/python -m local put-event "$${EVENT:-eventbridge-entry.meeting-ended}"

request: $(LOCAL) ## Send a signed request to the running stack's API [METHOD=GET API_PATH=/recordings/… BODY=]
	@.venv/bin/python -m local request "$${METHOD:-GET}" "$${API_PATH:-/recordings}" "$${BODY:-}"

invoke: $(LOCAL) ## Invoke a function of the running stack [FUNCTION=follow_up EVENT=follow-up.schedule-tick]
	@.venv/bin/python -m local invoke "$${FUNCTION:-follow_up}" "$${EVENT:-follow-up.schedule-tick}"

# More workers than two cores: many tests wait. Of a selection no coverage is asked.
test: $(PACKAGE_FOR_TESTS) $(TESTS) ## Run all tests, or some [ARGS="-k erased" WORKERS=4]
	@.venv/bin/python -m pytest -n $(WORKERS) --dist loadgroup \
		$(if $(ARGS),$(ARGS),--cov --cov-report=term:skip-covered)

TABLE_TESTS := tests/unit/test_worklist.py tests/unit/test_catalogue.py tests/unit/test_listing.py \
	tests/unit/test_interleavings.py tests/functional

test-dynalite: $(TESTS) $(DYNALITE) ## Run the tests with tables against another DynamoDB (needs Node 20) [ARGS="-k erased"]
	@.venv/bin/python tests/dynalite.py $(DYNALITE) $(TABLE_TESTS) $(ARGS)

mutants: $(MUTANTS) ## See which small faults in a module its tests let pass [MODULE=worklist ARGS="*is_urgent*"]
	@.venv-mutants/bin/python tests/mutants.py $(MODULE) $(if $(ARGS),'$(ARGS)')

soak: $(TESTS) ## Run the fault suite at length; a seed is a run, odd ones to the last request [SEED=1 MEETINGS=2000]
	@.venv/bin/python -m pytest tests/faults --timeout 0 --seed $(SEED) --meetings $(MEETINGS)

bench: package plain-package ## Measure cold starts, a recording's life and cost, and the list [ROUNDS=5]
	@.venv/bin/python -m bench --rounds $(ROUNDS)

bench-list: package ## Measure a page of the list, with 1,000 rows and with 100,000
	@.venv/bin/python -m bench.list_page

bench-backfill: package ## Measure a backfill by a sweep, beside fetching each recording [RECORDINGS=20000]
	@.venv/bin/python -m bench.backfill --recordings $(RECORDINGS)

bench-copy: $(TESTS) ## Measure the copy to S3 beside what it can be compared to [SIZES=64,1024,4096]
	@.venv/bin/python -m bench.archive_copy --sizes $(SIZES)

# What would be deployed, but for this machine's Python and architecture.
package: $(PACKAGE)

$(PACKAGE): $(PACKAGE_SOURCES) $(TESTS) $(SAM) $(RIC)
	$(call build_here,.local/build)
	@.venv/bin/python -m local.package $(THIS_RUNTIME) $(THIS_ARCHITECTURE) .local/build
	@touch $@

# The same as sam build alone delivers it, for comparison.
plain-package: $(TESTS) $(SAM)
	$(call build_here,.local/plain)

check: $(TESTS) $(SAM) $(SECURITY) ## Check format, lint, types, the template and the OpenAPI document
	@.venv/bin/ruff format --check --quiet . || { echo "make format would change this"; exit 1; }
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy functions local realtimekit_recordings bench
	@.venv-sam/bin/sam validate --lint --region us-east-1
	@.venv-security/bin/checkov --file template.yaml --framework cloudformation --quiet --compact --skip-download
	@.venv/bin/python -m openapi_spec_validator functions/openapi.json

audit: $(SECURITY) ## Look for known vulnerabilities in what is deployed, and in what deploys it (asks pypi.org)
	@.venv-security/bin/pip-audit --strict --require-hashes --disable-pip -r requirements.txt -r local/sam-requirements.txt

format: $(TESTS) ## Format the code
	@.venv/bin/ruff check --fix --quiet . ; .venv/bin/ruff format --quiet .

lock: $(SAM) ## Renew requirements.txt and local/sam-requirements.txt from their .in files
	@$(COMPILE) --output-file requirements.txt requirements.in
	@$(COMPILE) --output-file local/sam-requirements.txt local/sam-requirements.in

build: $(SAM) ## Build what is deployed, trimmed and with its bytecode [RUNTIME= ARCHITECTURE=]
	@.venv-sam/bin/python -m local.package $(RUNTIME) $(ARCHITECTURE)
	@$(SAM_BUILD) --parameter-overrides \
		"ParameterKey=Runtime,ParameterValue=$(RUNTIME) ParameterKey=Architecture,ParameterValue=$(ARCHITECTURE)"
	@.venv-sam/bin/python -m local.package $(RUNTIME) $(ARCHITECTURE) .aws-sam/build

deploy: build ## Build, and deploy to AWS with questions asked [RUNTIME= ARCHITECTURE= STACK= CONFIG_ENV=]
	@test -f $(DEPLOYMENTS) || cp samconfig.toml $(DEPLOYMENTS)
	@.venv-sam/bin/sam deploy --guided --config-file $(CURDIR)/$(DEPLOYMENTS) --config-env $(CONFIG_ENV) \
		$(if $(STACK),--stack-name $(STACK))

clean: ## Remove all that was set up or built
	rm -rf .venv .venv-sam .venv-runtime .venv-security .venv-mutants .local .aws-sam .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- for this machine ---

THIS_RUNTIME = $(shell .venv/bin/python -c "import sys; print('python%d.%d' % sys.version_info[:2])")
THIS_ARCHITECTURE = $(subst aarch64,arm64,$(shell uname -m))

define build_here
	@mkdir -p .local
	@$(SAM_BUILD) --build-dir $(1) --parameter-overrides \
		"ParameterKey=Runtime,ParameterValue=$(THIS_RUNTIME) ParameterKey=Architecture,ParameterValue=$(THIS_ARCHITECTURE)" \
		> $(1).log 2>&1 || { cat $(1).log; exit 1; }
endef

# --- environments ---

NEEDED := Install Python 3.11 or newer with both (Debian, Ubuntu: apt-get install python3 python3-venv), \
	or name one with PYTHON=/path/to/python3.

# $(1) is a lock, which names all there is to install with its hashes; $(2) is pinned without.
define create
	@command -v $(PYTHON) > /dev/null || { echo "There is no $(PYTHON). $(NEEDED)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11. $(NEEDED)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || \
		{ echo "$(PYTHON) lacks the modules venv and ensurepip. $(NEEDED)"; exit 1; }
	@echo "Setting up $(@D): once, half a minute to two"
	@mkdir -p .local && rm -rf $(@D) && $(PYTHON) -m venv $(@D)
	$(if $(1),@$(@D)/bin/pip install --quiet --require-hashes --no-deps -r $(1))
	$(if $(2),@$(@D)/bin/pip install --quiet -r $(2))
	@touch $@
endef

$(LOCAL): local/requirements.txt requirements.in requirements.txt
	$(call create,requirements.txt,local/requirements.txt)

$(TESTS): tests/requirements.txt $(LOCAL)
	@echo "Setting up $(@D) for tests"
	@$(@D)/bin/pip install --quiet -r tests/requirements.txt
	@touch $@

$(SAM): local/sam-requirements.txt
	$(call create,local/sam-requirements.txt)

$(RIC): local/runtime-requirements.txt
	$(call create,,local/runtime-requirements.txt)

$(SECURITY): local/security-requirements.txt
	$(call create,,local/security-requirements.txt)

$(MUTANTS): tests/mutants-requirements.txt tests/requirements.txt requirements.txt
	$(call create,requirements.txt,tests/mutants-requirements.txt)

# Its install scripts build a store on disk; the tests' tables are in memory.
$(DYNALITE):
	@npm install --prefix .local/dynalite --no-save --no-audit --no-fund --ignore-scripts --silent dynalite@4.0.0
