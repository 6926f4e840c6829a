"""Layers that victims share."""
