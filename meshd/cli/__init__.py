"""The command line: verbs that ask a running daemon over its HTTP API, start one, or judge a configuration.

Rules:

- Importing this package or `meshd.cli.root` imports click and the standard library only. A verb's module is imported
  when the verb is named; httpx, rich and trio are imported by the function that needs them.
- Exit codes are in `outcome`, the same for every verb. Results go to standard output, everything else to standard
  error.
- With `--json` a verb prints one object with `"version": 1`; its help names the other keys. Within a version keys are
  added, never renamed or removed. A refusal is an object too: `{"version": 1, "error": {"code", "detail"}}`.
- Without it people read: tables with colour on a terminal (`NO_COLOR` is respected), aligned text when piped.
"""
