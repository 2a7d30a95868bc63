# The commands that people type. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTEST_ARGUMENTS ?=

.PHONY: help demo lists-demo lists-kills stack test lint bench crash stops rotations faults floods soak events kubernetes engine image peers lock clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: image ## send a message through a relay to a mock upstream and show what happened (KEEP=yes leaves it running)
	@scripts/demo

lists-demo: image ## start a list server (Mailman, lighttpd, the relay) with a mock of a provider, and say what to do with it
	@scripts/lists-demo

test: image peers .venv/ready ## install what is missing, then lint and run every test
	@$(MAKE) --no-print-directory lint
	@.venv/bin/python -m pytest $(PYTEST_ARGUMENTS)

lint: .venv/ready ## ruff, mypy, hadolint, shellcheck, yamllint
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check --quiet .
	@.venv/bin/mypy
	@.venv/bin/hadolint Dockerfile tests/peers/Dockerfile compose/mailman/Dockerfile bench/*/Dockerfile
	@.venv/bin/shellcheck $$(grep --files-with-matches --max-count=1 '^#!/usr/bin/env bash' compose/mailman/*/*-*)
	@.venv/bin/ruff check --quiet compose/mailman/*/start-core compose/mailman/*/start-web compose/mailman/*/first-steps \
	  compose/mailman/*/lists-master
	@.venv/bin/shellcheck scripts/* plugin/build authrelay .ci/run $$(git ls-files 'tests/peers/*/start')
	@.venv/bin/yamllint --strict compose monitoring $$(git ls-files 'kubernetes/*.yaml' | grep -v /templates/)
	@echo 'lint: all clean'

bench: image .venv/ready ## what it costs, beside bare Postfix, Exim and OpenSMTPD, and how that grows; fills docs/performance.md
	@.venv/bin/python -m bench
	@.venv/bin/python -m bench.deliveries
	@.venv/bin/python -m bench.deliveries --curves --rounds 1
	@.venv/bin/python -m bench.forwarder
	@.venv/bin/python -m bench.page

stack: image peers .venv/ready ## the list server in a browser, by mail, from a backup: what takes too long for every test run
	@BASE_IMAGE=$$(scripts/base-image) scripts/peers reader sslyze observatory
	@scripts/lists-images
	@.venv/bin/python -m pytest tests/stack -n 0 --capture=no -q

lists-kills: image peers .venv/ready ## 100 posts to 50 members while each service of the list server is killed; then what it costs
	@scripts/lists-images
	@AUTHRELAY_POSTS=$${POSTS:-100} AUTHRELAY_MEMBERS=$${MEMBERS:-50} AUTHRELAY_SECONDS=$${SECONDS_AWAY:-120} \
	  .venv/bin/python -m pytest tests/stack/test_kills.py tests/stack/test_costs.py -n 0 --capture=no -q

crash: image peers .venv/ready ## kill -9 something 200 times under load, and account for every message
	@AUTHRELAY_ROUNDS=$${ROUNDS:-200} .venv/bin/python -m pytest tests/image/test_crash.py -n 0 --capture=no -q

stops: image peers .venv/ready ## stop the relay 100 times under load, and account for every message; beside it a plain TERM to master
	@AUTHRELAY_ROUNDS=$${ROUNDS:-100} .venv/bin/python -m pytest tests/image/test_stop.py -k "under_load or duplicates" -n 0 --capture=no -q

rotations: image peers .venv/ready ## change the password 50 times under load, in all four ways that a file can change
	@AUTHRELAY_ROUNDS=$${ROUNDS:-50} .venv/bin/python -m pytest tests/image/test_upkeep.py -k under_load -n 0 --capture=no -q

faults: image peers .venv/ready ## the fault matrix with an upstream that is away for a minute, and where every message went
	@AUTHRELAY_SECONDS=$${SECONDS_AWAY:-60} .venv/bin/python -m pytest tests/image/test_faults.py \
	  tests/image/test_refused_logins.py tests/image/test_faults_of_the_machine.py -n 0 --capture=no -q

floods: image peers .venv/ready ## 5000 slow connections of one client, while another one sends
	@AUTHRELAY_CONNECTIONS=$${CONNECTIONS:-5000} .venv/bin/python -m pytest tests/image/test_floods.py -n 0 --capture=no -q

soak: image peers .venv/ready ## mixed mail and one fault after the other for 30 minutes; what grows, and where every message went
	@AUTHRELAY_MINUTES=$${MINUTES:-30} .venv/bin/python -m pytest tests/image/test_soak.py -n 0 --capture=no -q

events: image peers .venv/ready ## 10,000 recipients of every fate, 100,000 lines of a bad day, a million through the forwarder: every one accounted for
	@AUTHRELAY_RECIPIENTS=$${RECIPIENTS:-10000} AUTHRELAY_LINES=$${LINES:-100000} \
	  AUTHRELAY_FORWARDED_LINES=$${FORWARDED_LINES:-1000000} \
	  .venv/bin/python -m pytest tests/image/test_logs.py tests/image/test_log_lines.py tests/image/test_forwarder.py -n 0 --capture=no -q

kubernetes: image peers .venv/ready ## the chart's pods on podman; 3000 messages (MESSAGES=) on Swarm while it kills, drains, scales and updates
	@BASE_IMAGE=$$(scripts/base-image) scripts/peers podman disk
	@AUTHRELAY_KUBERNETES=yes AUTHRELAY_MESSAGES=$${MESSAGES:-3000} \
	  .venv/bin/python -m pytest tests/kubernetes -n 0 --capture=no -q

engine: ## a container engine and a base image, nothing else
	@scripts/engine
	@scripts/base-image >/dev/null

image: engine ## build authrelay:dev
	@scripts/image

peers: engine
	@BASE_IMAGE=$$(scripts/base-image) scripts/peers

lock: .venv/ready ## compile the hashed locks anew from pyproject.toml
	@scripts/lock

clean: ## remove the venv and what tests and the demo may have left behind
	@scripts/clean

.venv/ready: requirements-dev.lock tests/kubernetes/requirements.lock scripts/venv
	@scripts/venv
