"""The life of a process and of what it keeps: its start, its end, its clock, and what must never be kept."""
