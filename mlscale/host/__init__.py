"""The host: sandboxes, cgroups, /proc sampling, and the ledger that makes clean-up certain."""
