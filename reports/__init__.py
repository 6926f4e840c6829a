"""Tables and pages, made from stored run records alone: no model, no data."""
