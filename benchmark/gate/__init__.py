"""A baseline of attack strength, and whether today's figures keep to it."""
