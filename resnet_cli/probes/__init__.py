"""Measurements on a network, which leave its weights and running statistics unchanged."""
