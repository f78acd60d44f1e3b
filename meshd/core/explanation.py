"""Who leads and why, in words: what `meshd leader` and `meshd check failover` show. Nothing is decided here."""

from __future__ import annotations

from meshd.configuration import Configuration
from meshd.core.convergence import Convergence
from meshd.core.election import Leadership
from meshd.core.membership import Membership
from meshd.core.snapshot import FailoverView, LeadershipView, VoterView
from meshd.model import Now, Status


def explain(
    configuration: Configuration, leadership: Leadership, membership: Membership, convergence: Convergence, now: Now
) -> LeadershipView:
    """The whole of it, as seen from here."""
    voters = _voters(configuration, membership, convergence, now)
    return LeadershipView(
        policy="manual",
        failback=configuration.hivemind.failback,
        term=leadership.term,
        leads=leadership.term if leadership.is_primary else None,
        authoritative=leadership.is_primary,
        standing=leadership.role,
        since_ms=None,
        cause="",
        why_not="" if leadership.is_primary else "it is a worker",
        majority=len(voters) // 2 + 1,
        voters=voters,
        failover=FailoverView(possible=False, winner=None, missing=("no election",)),
        turns=(),
    )


def _voters(
    configuration: Configuration, membership: Membership, convergence: Convergence, now: Now
) -> tuple[VoterView, ...]:
    by_url = {member.url: member for member in membership.members.values() if member.url}
    views = []
    for index, url in enumerate(configuration.hivemind.peers[:7]):
        member = by_url.get(url)
        is_self = index == configuration.priority
        views.append(
            VoterView(
                index=index,
                url=url,
                instance_id=membership.own_id if is_self else member.instance_id if member else None,
                status=Status.ALIVE if is_self else member.status if member else None,
                eligible=configuration.hivemind.leader_eligible if is_self else True,
                in_sync=convergence.in_sync(member.instance_id) if member else None,
                contact_age_s=now.mono_s - member.contact_s if member else None,
                is_self=is_self,
            )
        )
    return tuple(views)
