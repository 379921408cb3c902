"""``python -m fgbgpack``: the command line."""

from fgbgpack.cli import main

if __name__ == "__main__":
    main()
