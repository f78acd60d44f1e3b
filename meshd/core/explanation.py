"""Who leads and why, in words: what `meshd leader` and `meshd check failover` show. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import define

from meshd.core.convergence import Convergence
from meshd.core.election import HUB_TERM, Leadership
from meshd.core.handshake import MAX_VOTERS
from meshd.core.membership import Membership
from meshd.core.snapshot import FailoverView, LeadershipView, VoterView
from meshd.core.standing import Policy, Standing
from meshd.model import Now, Status


@define
class Explanation:
    """Puts an instance's leadership into words."""

    leadership: Leadership
    membership: Membership
    convergence: Convergence

    def view(self, now: Now) -> LeadershipView:
        """The whole of it, as seen from here."""
        leadership = self.leadership
        voters = tuple(self._voters(now))
        turns = tuple(leadership.history.turns)
        current = turns[-1] if turns and turns[-1].leader == self._leader else None
        return LeadershipView(
            policy=leadership.policy,
            failback=leadership.configuration.hivemind.failback,
            term=leadership.term,
            leads=leadership.leads,
            authoritative=leadership.decides_in(now) is not None,
            standing=leadership.standing,
            since_ms=current.utc_ms if current else None,
            cause=leadership.history.cause,
            why_not="" if leadership.is_primary else self._why_not(now),
            majority=leadership.authority.majority,
            voters=voters,
            failover=self._failover(voters),
            turns=turns,
        )

    @property
    def _leader(self) -> str | None:
        return self.leadership.voter.own_id if self.leadership.is_primary else self.leadership.primary_id

    def _why_not(self, now: Now) -> str:
        leadership, hivemind = self.leadership, self.leadership.configuration.hivemind
        if leadership.primary_link is not None:
            return self._who_does(leadership.primary_link)
        if leadership.configuration.priority is None:
            return "its protolab.instanceUrl is not among hivemind.peers: it follows, and never leads"
        if not leadership.voter.is_voter:
            return f"it is no voter: the first {MAX_VOTERS} of hivemind.peers elect and lead"
        if not hivemind.leader_eligible:
            return "hivemind.leaderEligible is false: it votes, and never leads"
        if leadership.policy is Policy.MANUAL:
            return "hivemind.failover is manual: it leads when `meshd promote` says so"
        return self._what_it_waits_for(now)

    def _who_does(self, link: int) -> str:
        line = self.leadership.handshake.lines[link]
        if line.leads == HUB_TERM or not line.decides:
            return f"{line.peer} leads, without authority as long as it has no majority of the voters"
        return f"{line.peer} leads" + (f" in term {line.leads}" if line.leads is not None else "")

    def _what_it_waits_for(self, now: Now) -> str:
        leadership = self.leadership
        last = f"; {leadership.candidacy.outcome}" if leadership.candidacy.outcome else ""
        if leadership.standing in (Standing.ASKING, Standing.STANDING):
            return f"it asks the voters at this moment{last}"
        wait_s = max(0.0, leadership.due_s(now) - now.mono_s)
        return f"it looks for a primary, and stands itself in {wait_s:.0f} s when none is found{last}"

    def _voters(self, now: Now) -> Iterator[VoterView]:
        own = self.leadership.configuration.priority
        by_url = {member.url: member for member in self.membership.members.values() if member.url}
        for index, url in enumerate(self.leadership.candidacy.voters):
            member = by_url.get(url)
            if index == own:
                own_id, may_lead = self.membership.own_id, self.leadership.is_eligible
                yield VoterView(index, url, own_id, Status.ALIVE, may_lead, None, None, is_self=True)
            elif member is None:
                yield VoterView(index, url, None, None, eligible=True, in_sync=None, contact_age_s=None, is_self=False)
            else:
                in_sync = self.convergence.in_sync(member.instance_id)
                age_s = now.mono_s - member.contact_s
                name, status, may_lead = member.instance_id, member.status, member.leader_eligible
                agrees = member.peers_hash in (None, self.leadership.handshake.peers_hash)
                yield VoterView(index, url, name, status, may_lead, in_sync, age_s, is_self=False, agrees=agrees)

    def _failover(self, voters: Sequence[VoterView]) -> FailoverView:
        """What would happen if the primary were lost at this moment."""
        leadership = self.leadership
        leader = self._leader
        others = [voter for voter in voters if leader is None or voter.instance_id != leader]
        there = [voter for voter in others if voter.status is not None and voter.status.is_online and voter.agrees]
        winner = next((voter.instance_id for voter in there if voter.eligible), None)
        missing = []
        if leadership.policy is Policy.MANUAL:
            missing.append("hivemind.failover is manual: nobody takes over before `meshd promote`")
        if leadership.policy is Policy.QUORUM and len(there) < leadership.authority.majority:
            without = f"without {leader} " if leader else ""
            count = f"{len(there)} of {len(voters)} voters {'is' if len(there) == 1 else 'are'} left"
            missing.append(f"{without}{count}, {leadership.authority.majority} are needed")
            missing += [_absence(voter) for voter in others if voter not in there]
        elif winner is None:
            missing.append("a voter other than the primary that is there and may lead")
        return FailoverView(possible=not missing, winner=None if missing else winner, missing=tuple(missing))


def _absence(voter: VoterView) -> str:
    name = voter.instance_id or voter.url
    if voter.status is None:
        return f"{name} was never met"
    if not voter.agrees:
        return f"{name} was given other hivemind.peers, failover or peerTtlMs: it gives no vote"
    return f"{name} is {voter.status.shown}"
