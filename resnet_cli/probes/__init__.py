"""Measurements on a network. They read it and leave weights and running statistics unchanged."""
