"""Losses that victims are trained with."""
