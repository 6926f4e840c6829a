"""Used by all other packages: types, errors, files, settings, the registry, the threat model."""
