"""A widget that compares two settings on the twin while they are moved."""
