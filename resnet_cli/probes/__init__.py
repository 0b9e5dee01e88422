"""Measurements on a network; each returns a tidy frame."""
