"""Tables, figures and pages from stored run records alone, without model or data."""
