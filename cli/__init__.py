"""The command line: commands and exit codes."""
