"""Does the evaluation itself hold? Checks of one victim, of attacks on it, and of the code between."""
