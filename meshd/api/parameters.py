"""What the query of a request says."""

from __future__ import annotations

from quart import request

from meshd.errors import ApiError


def seconds(name: str, default_s: float, most_s: float) -> float:
    """`?name=` in seconds, at most `most_s`. Raises `ApiError`."""
    text = request.args.get(name)
    if text is None:
        return default_s
    try:
        value_s = float(text)
    except ValueError:
        value_s = -1.0
    if not 0 <= value_s < float("inf"):
        raise ApiError(422, "invalid", f"{name} is a number of seconds, not {text!r:.40}")
    return min(value_s, most_s)
