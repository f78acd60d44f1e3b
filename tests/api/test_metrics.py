"""`/metrics`: one gauge after another, as Prometheus reads them."""

from __future__ import annotations

import re

from attrs import evolve

from meshd.api.app import create_app
from meshd.api.metrics import CONTENT_TYPE, metric_lines
from meshd.core.snapshot import MemberView
from meshd.model import Dialect, Status
from tests.api.local import PRIMARY, Local

LINE = re.compile(r'[a-z_]+(\{peer="([^"\\\n]|\\.)*"\})? -?[0-9.e+-]+')


def peer(name: str) -> MemberView:
    return MemberView(
        name, Status.ALIVE, None, None, (), None, None, None, Dialect.NATIVE, None, 1_000, None, 1.5, None, linked=True
    )


def samples(*members: MemberView) -> dict[str, str]:
    snapshot = evolve(Local(PRIMARY).instance().snapshot(), members=members)
    lines = [line for line in metric_lines(snapshot) if not line.startswith("#")]
    assert all(LINE.fullmatch(line) for line in lines)
    return dict(line.rsplit(" ", 1) for line in lines)


async def test_it_is_text_of_the_exposition_format() -> None:
    answer = await create_app(Local(PRIMARY).instance()).test_client().get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == CONTENT_TYPE
    text = await answer.get_data(as_text=True)
    assert "# TYPE meshd_primary gauge\nmeshd_primary 1\n" in text
    assert text.endswith("\n")


def test_each_peer_says_whether_it_is_in_sync_since_when_not_and_when_a_change_came() -> None:
    found = samples(
        evolve(peer("dev-02"), in_sync=True, last_change_age_s=2.5),
        evolve(peer("dev-03"), in_sync=False, out_of_sync_since_ms=1_800_000_000_500, status=Status.FAILED),
        peer("orig"),
    )
    assert found['meshd_peer_in_sync{peer="dev-02"}'] == "1"
    assert found['meshd_peer_in_sync{peer="dev-03"}'] == "0"
    assert 'meshd_peer_in_sync{peer="orig"}' not in found
    assert found['meshd_peer_online{peer="dev-03"}'] == "0"
    assert found['meshd_peer_out_of_sync_since_seconds{peer="dev-03"}'] == "1800000000.5"
    assert found['meshd_peer_last_change_age_seconds{peer="dev-02"}'] == "2.5"
    assert found['meshd_peer_heard_age_seconds{peer="orig"}'] == "1.5"


def test_a_name_breaks_no_line() -> None:
    assert 'meshd_peer_online{peer="a\\"b\\\\c\\nd"}' in samples(peer('a"b\\c\nd'))
