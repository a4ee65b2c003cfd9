"""The questions and experiments of each student notebook."""
