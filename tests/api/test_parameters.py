"""`meshd.api.parameters`."""

from __future__ import annotations

import pytest
from quart import Quart

from meshd.api.parameters import seconds
from meshd.errors import ApiError


async def read(query: str) -> float:
    async with Quart("test").test_request_context(f"/?{query}"):
        return seconds("wait", 10.0, 60.0)


@pytest.mark.parametrize(
    ("query", "expected"), [("", 10.0), ("wait=0", 0.0), ("wait=2.5", 2.5), ("wait=61", 60.0), ("wait=1e9", 60.0)]
)
async def test_seconds(query: str, expected: float) -> None:
    assert await read(query) == expected


@pytest.mark.parametrize("text", ["", "-1", "inf", "nan", "soon", "1s"])
async def test_what_is_no_number_of_seconds(text: str) -> None:
    with pytest.raises(ApiError) as raised:
        await read(f"wait={text}")
    assert (raised.value.status, raised.value.code) == (422, "invalid")
