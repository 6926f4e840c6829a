"""The tables of the paper of ``fsam_uap``: which runs they need, executing these, and printing the tables."""
