"""Small tools without knowledge of networks or runs."""
