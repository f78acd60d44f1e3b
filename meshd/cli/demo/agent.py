"""The agent of a demo: pretends to work on a phase for a second or two, and writes down when it began and ended.

`agents.command` runs it with the file in which all agents of a demo write, a JSON object per line. So what happened is
known from who did it, whatever the daemons say: `witness` compares the two. It needs nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

SECONDS = {"small": 1.0, "medium": 1.5, "large": 2.0}
"""How long the work takes, by the complexity that the phase states."""

CANNOT = {"page-on-call": "pager unreachable"}
"""The phases that this agent always fails, each with why."""


def main(diary: Path) -> int:
    """Work on the feature on standard input; returns the exit status."""
    feature = json.load(sys.stdin)
    phase = os.environ["MESHD_PHASE"]
    write(diary, "begun")
    print(f"{phase}: {feature['title']}", flush=True)  # noqa: T201  it goes to the log of the run
    time.sleep(SECONDS.get(feature.get("complexity"), 1.0))
    error = CANNOT.get(phase)
    number = write(diary, "failed" if error else "done")
    result = {"error": error} if error else {"prUrl": f"https://git.example/pull/{number}"}
    print(json.dumps(result))  # noqa: T201  its result
    return 1 if error else 0


def write(diary: Path, what: str) -> int:
    """One line, in one write, because several agents append to this file; returns the number of the line."""
    line = {
        "what": what,
        "at": time.monotonic(),
        "instance": os.environ["MESHD_INSTANCE_ID"],
        "phase": f"{os.environ['MESHD_MILESTONE']}/{os.environ['MESHD_PHASE']}",
        "generation": int(os.environ["MESHD_GENERATION"]),
    }
    with diary.open("ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")
        end = file.tell()
    return diary.read_bytes()[:end].count(b"\n")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
