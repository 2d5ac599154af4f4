"""Slow definitions in plain NumPy of what the library computes: the one oracle of all tests. Nothing of it is used."""
