"""A trained network in files: read from any that holds one, written for other programs."""
