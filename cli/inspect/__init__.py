"""The commands that look into a log, and those that tidy it up."""
