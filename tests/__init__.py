"""The test suite of respool."""
