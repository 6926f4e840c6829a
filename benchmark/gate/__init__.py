"""A regression gate: compare metrics of victims and attacks with a stored baseline."""
