"""Starts the command line. Ctrl-C ends it quietly, even while it is still being imported."""

import os
import signal


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from whet.cli import main as run

    run()


if __name__ == "__main__":
    main()
