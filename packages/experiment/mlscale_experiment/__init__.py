"""mlscale_experiment: an experiment with any model, from pilot to report."""
