"""``python -m elimtool`` is the command ``elimtool``."""

from elimtool.cli.app import main

if __name__ == "__main__":
    main()
