"""The twin: the same decisions as live, a calibrated model of the rest."""
