"""What is remembered: responses and their events. Knows ids, numbers, status and bytes; neither SSE nor HTTP."""
