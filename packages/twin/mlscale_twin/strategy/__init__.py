"""From a trace and an objective to settings: what ``mlscale advise`` does."""
