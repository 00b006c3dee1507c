"""Real processes that are killed at random and at named points, and a power that fails: what clients saw must stay."""
