"""What the fleets of `test_intake` run for a feature: it works for a while, and says so in a file that all share.

    python -I -S agent.py FILE SECONDS

Each line of the file is when, on the boot-time clock, what (`start`, `alive` every 50 ms, `end`), and the phase, its
generation, the instance and the process, with tabs between them. So when it really ended is known within 50 ms however
it ended. It needs few imports: how soon it starts is measured.
"""

from __future__ import annotations

import os
import sys
import time

ALIVE_EVERY_S = 0.05


def main() -> None:
    """Work."""
    path, seconds = sys.argv[1], float(sys.argv[2])
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    place = "/".join(os.environ[f"MESHD_{name}"] for name in ("PROJECT", "MILESTONE", "PHASE"))
    generation = os.environ["MESHD_GENERATION"]
    who = "\t".join((place, generation, os.environ["MESHD_INSTANCE_ID"], str(os.getpid())))

    def say(what: str) -> float:
        at_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        os.write(file, f"{at_s!r}\t{what}\t{who}\n".encode())
        return at_s

    end_s = say("start") + seconds
    while (left_s := end_s - time.clock_gettime(time.CLOCK_BOOTTIME)) > 0:
        time.sleep(min(left_s, ALIVE_EVERY_S))
        say("alive")
    say("end")
    sys.stdout.write(f'working\n{{"prUrl": "https://example.org/{place}/{generation}"}}\n')


if __name__ == "__main__":
    main()
