# make image   build, boot, sign, publish and verify recipes/soe-debian-12.yaml
# make test    every test, real build and real boots included
# make check   lint, types, import rules, quick tests
# make cloud   a Keystone, Glance and Barbican on loopback to play with; make cloud-down stops it
# make service a PostgreSQL, a RabbitMQ, a worker of each role and a beat to play with; make service-down stops them
# make clouds  two of them, independent of each other; make clouds-down stops both
# make fuzz    each parser of what strangers write, for FUZZ_SECONDS each; finds are kept in .fuzz
# make compliance  docs/reference/compliance.md anew: RELEASES of this home, compared with its PLAIN one
# Each installs what is missing first, and says so.

SHELL := /bin/bash
BIN := .venv/bin
RECIPE ?= recipes/soe-debian-12.yaml
RELEASES ?= soe-debian-12 soe-debian-12-separate
PLAIN ?= soe-plain-12
FUZZ_SECONDS ?= 60
# Root file systems are built, mounted and compared: as root, or with sudo.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo -E)
# Tests that only compute share the cores, file by file; machines that boot need them for themselves.
SIDE_BY_SIDE := --numprocesses auto --maxprocesses 8 --dist loadfile
# These wait for each other's processes much of the time, so there are two for each core. The longest are single tests,
# which would come last.
CONTRACT := --numprocesses $(shell echo $$((2 * $$(nproc)))) --maxprocesses 8 --dist loadfile --no-loadscope-reorder
# Each worker has a cloud or two of its own.
CLOUDS := tests/integration/glance
MACHINES := $(patsubst %,tests/integration/test_%.py,boot boot_vm build compliance hardened service)
# What else there is takes what machines have built: pages, each in a home and a clone of its own, and whoever is patient.
REST := --numprocesses auto --maxprocesses 8 --dist worksteal
HOME_DIR := $(or $(IMAGEFACTORY_HOME),$(HOME)/.local/share/imagefactory)

.PHONY: image test check lint unit soak attacks fuzz bench docs compliance lock install cloud cloud-down clouds clouds-down service service-down

image: install
	@$(if $(AS_ROOT),sudo -v,:)
	@[ -e "$(HOME_DIR)/trust.json" ] || { echo "Making development keys in $(HOME_DIR)/keys"; $(BIN)/imagefactory keys init --development; }
	$(BIN)/imagefactory build $(RECIPE)

test: check
	$(BIN)/python -m tests.openstack prepare
	$(AS_ROOT) $(BIN)/python -m tests.servers prepare
	$(AS_ROOT) $(BIN)/pytest $(CONTRACT) tests/contract
	$(AS_ROOT) $(BIN)/pytest $(SIDE_BY_SIDE) $(CLOUDS)
	@built=$$(mktemp --directory); trap '$(AS_ROOT) rm -rf "$$built"' EXIT; set -ex; \
	homes="--built-home=$$built/tiny/home --hardened-home=$$built/hardened/home"; \
	$(AS_ROOT) $(BIN)/pytest $$homes $(MACHINES); \
	$(AS_ROOT) $(BIN)/pytest $$homes $(REST) $(addprefix --ignore=,$(CLOUDS) $(MACHINES)) tests/integration
	$(AS_ROOT) $(BIN)/pytest $(SIDE_BY_SIDE) tests/conformance

check: lint unit

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	PATH="$(abspath $(BIN)):$$PATH" ELEMENTS_DIR=elements LIB_DIR=elements $(BIN)/dib-lint > /dev/null

unit: install
	$(BIN)/pytest -q $(SIDE_BY_SIDE) tests/unit

soak: install
	$(AS_ROOT) $(BIN)/pytest tests --soak

attacks: install
	$(BIN)/python -m tests.conformance.attacks.make

fuzz: install
	@mkdir -p .fuzz; targets=$$($(BIN)/python -m tests.fuzz list 2> .fuzz/list.log) || { cat .fuzz/list.log; exit 1; }; \
	failed=; for target in $$targets; do \
		echo "$$target: $(FUZZ_SECONDS) s"; \
		$(BIN)/python -m tests.fuzz $$target --seconds $(FUZZ_SECONDS) --corpus .fuzz/$$target > .fuzz/$$target.log 2>&1 \
			|| { tail -20 .fuzz/$$target.log; failed="$$failed $$target"; }; \
	done; [ -z "$$failed" ] || { echo "Failed:$$failed"; exit 1; }

bench: install
	$(AS_ROOT) $(BIN)/python -m bench

docs: install
	$(BIN)/python -m docs.make_reference

compliance: install
	$(BIN)/python -m docs.make_compliance --plain $(PLAIN) $(RELEASES)

lock:
	uv pip compile pyproject.toml --extra build --extra dev --extra keyring --extra openstack --extra pkcs11 --extra plot --extra service \
		--generate-hashes --no-emit-index-url --no-header --python-version 3.11 --output-file requirements.lock --upgrade

cloud: install
	@$(BIN)/python -m tests.openstack up

cloud-down: install
	@$(BIN)/python -m tests.openstack down

clouds: cloud
	@$(BIN)/python -m tests.openstack up --state .cloud-second --name second --beside .cloud

clouds-down: cloud-down
	@$(BIN)/python -m tests.openstack down --state .cloud-second

service: install
	@$(AS_ROOT) $(BIN)/python -m tests.servers up

service-down: install
	@$(AS_ROOT) $(BIN)/python -m tests.servers down

install:
	@.ci/install
