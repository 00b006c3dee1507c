"""respool before agents that do what real ones do not do on demand, over real sockets."""
