"""What a run was asked and what it found, on disk."""
