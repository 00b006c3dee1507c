"""HTTP in, HTTP out: tasks, time and the network around the pure protocol and the store."""
