"""What a script or a notebook imports, through ``import vbench``: the command line's work as functions."""
