"""`python -m respool.cli` is `respool`."""

from respool.cli.main import main

if __name__ == "__main__":
    main()
