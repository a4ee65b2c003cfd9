"""What is done with the twin: sweeps, sensitivity, and how it is held against formulas, SimPy and live runs."""
