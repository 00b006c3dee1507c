"""Real agents, respool over SQLite, real sockets and the stock OpenAI client: what a user would notice."""
