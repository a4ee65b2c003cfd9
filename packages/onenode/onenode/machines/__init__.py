"""Machines that come and go: real kubelets in namespaces of their own, started as Karpenter asks for them."""
