"""The command line: one file a command, one place for options, one for output."""
