"""Figures from stored records and what runs kept beside them: one file a figure, no model, no display."""
