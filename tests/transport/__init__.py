"""Tests of the upstream transport against raw sockets."""
