"""Uses of the twin: sweeps, sensitivity analysis, and comparisons with formulas, SimPy and live runs."""
