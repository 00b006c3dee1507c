"""Agents to put respool in front of, and a demonstration of what it gives them."""
