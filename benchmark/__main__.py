"""``python -m vbench``: the command line, for torchrun among others."""

from vbench.cli import main

if __name__ == "__main__":
    main()
