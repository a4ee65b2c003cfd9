"""The host: sandboxes, cgroups, /proc sampling, and the ledger from which crashed runs are cleaned up."""
