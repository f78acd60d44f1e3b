"""`python -m meshd` and the console script `meshd`."""

from __future__ import annotations

import signal
import sys

EX_INTERRUPTED = 130


def main() -> None:
    """Run the command line; an interrupt ends it without a traceback, whatever it was doing.

    The daemon's signals wait in the kernel until it listens to them: half a second of imports is not to lose them.
    """
    if sys.argv[1:2] == ["run"]:
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    try:
        from meshd.cli.root import root  # noqa: PLC0415  click takes 40 ms, in which Ctrl-C may be pressed

        root(prog_name="meshd")
    except KeyboardInterrupt:
        sys.exit(EX_INTERRUPTED)


if __name__ == "__main__":
    main()
