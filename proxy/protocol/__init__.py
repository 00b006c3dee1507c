"""What the bytes mean: pure functions and state machines over bytes and JSON.

No sockets, no tasks, no clock, no randomness, no logging: time, entropy and limits are handed in.
"""
