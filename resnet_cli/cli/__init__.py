"""The command line: one file per command, one place for options, one for output."""
