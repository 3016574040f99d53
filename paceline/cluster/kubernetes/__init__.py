"""A topology on Kubernetes: an overlay for Kustomize, of ``k8s/`` in the source."""
