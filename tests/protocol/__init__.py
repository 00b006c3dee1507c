"""Tests of what the bytes mean: no sockets, no clock."""
