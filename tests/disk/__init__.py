"""Storage that fails for real: full, damaged, taken away, or with errors put under SQLite."""
