"""Sweeps: a file that names many runs, and engines that do those that are missing."""
