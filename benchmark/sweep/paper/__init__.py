"""The tables of the paper behind ``fsam_uap``, each by one command: what is run, and running it."""
