"""Small helpers that are independent of networks and runs."""
