"""What everything else stands on: types, errors, files, settings, the registry, the threat model."""
