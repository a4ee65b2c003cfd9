"""A real Kubernetes of one node on a bare Linux machine: ``make cluster``, ``mlscale cluster``."""
