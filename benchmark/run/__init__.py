"""Doing runs: one victim, one data set, attacks, and the records of them."""
