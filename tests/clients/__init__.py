"""Clients that are slow, silent, gone or many, before the real process on real sockets."""
