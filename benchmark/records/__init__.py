"""Run records on disk: configurations and results."""
