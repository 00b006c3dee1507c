"""Real agents on unmodified SDKs, each in an environment of its own, under the control of a test."""
