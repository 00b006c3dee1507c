"""Everything that can be asked of one response, at the same moments, in random order: one end and one status each."""
