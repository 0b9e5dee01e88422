"""Verdicts on the claims of the two documents."""
