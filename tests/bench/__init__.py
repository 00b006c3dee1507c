"""What respool costs and how its cost grows, beside others in the same run: `make bench`."""
