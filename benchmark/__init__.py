"""vbench: how far an unseen perturbation breaks visible-infrared person re-identification."""

from vbench._version import __version__

__all__ = ["__version__"]
