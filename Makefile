# The three words of the operations guide for Kubernetes; everything else a developer does is in the justfile.
# NAMESPACE, CONTEXT, BY, REASON and TIMEOUT work as for the script: make k8s-pause NAMESPACE=staging REASON='upgrade'

.DEFAULT_GOAL := help
.PHONY: help k8s-pause k8s-resume k8s-control-status

help:
	@echo 'make k8s-pause | k8s-resume | k8s-control-status; everything else: just --list'

k8s-pause:
	@scripts/control-agent.sh pause

k8s-resume:
	@scripts/control-agent.sh resume

k8s-control-status:
	@scripts/control-agent.sh status
