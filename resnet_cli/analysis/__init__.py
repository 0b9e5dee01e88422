"""Joins run directories into frames, tables and figures; reads files only and never imports torch."""
