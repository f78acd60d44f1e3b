"""A host's disk: what its node asked to persist, as a later life of it finds it.

Rules: records are applied when their commit is done, all of one commit or none; what was not committed is lost in a
crash. Documents are replaced and never changed, so a picture of the disk costs no copy of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field

from meshd.core import effects
from meshd.core.ballot import Ballot, Proposal, Turn
from meshd.core.documents import Change, Conflict, Document
from meshd.core.stored import Stored
from meshd.model import JsonObject


@define(eq=False)
class Disk:
    """The content of one store."""

    store_id: str
    documents: dict[str, Document] = field(factory=dict)
    outbox: dict[int, Change] = field(factory=dict)
    seqs: dict[str, int] = field(factory=dict)
    settings: dict[str, tuple[int, JsonObject]] = field(factory=dict)
    conflicts: dict[str, Conflict] = field(factory=dict)
    events: list[effects.Emit] = field(factory=list)
    ballot: Ballot = field(factory=Ballot)
    proposals: dict[tuple[str, str, str], Proposal] = field(factory=dict)
    turns: list[Turn] = field(factory=list)

    def commit(self, records: Sequence[effects.Record]) -> None:
        """Apply the records of one transaction."""
        for record in records:
            self._apply(record)

    def _apply(self, record: effects.Record) -> None:
        match record:
            case effects.SaveEvent(event):
                self.events.append(event)
            case effects.SaveSeq(origin, seq):
                self.seqs[origin] = seq
            case effects.SaveDocument(slug, life, ended, registers, replace):
                before = self.documents.get(slug)
                kept = {} if before is None or replace else before.registers
                self.documents[slug] = Document(slug, life, {} if ended else {**kept, **registers}, ended)
            case effects.ForgetDocument(slug):
                self.documents.pop(slug, None)
            case effects.SaveSettings(scope, revision, values):
                self.settings[scope] = (revision, values)
            case effects.SaveStoreId(store_id):
                self.store_id = store_id
            case effects.TrimEvents(first):
                self.events = [event for event in self.events if event.id >= first]
            case effects.SaveOutbox() | effects.TrimOutbox() | effects.DropOutbox():
                self._apply_to_outbox(record)
            case effects.SaveConflict(conflict):
                self.conflicts[conflict.id] = conflict
            case effects.DropConflict(name):
                self.conflicts.pop(name, None)
            case _:
                self._apply_to_leadership(record)

    def _apply_to_outbox(self, record: effects.SaveOutbox | effects.TrimOutbox | effects.DropOutbox) -> None:
        match record:
            case effects.SaveOutbox(change):
                self.outbox[change.seq] = change
            case effects.TrimOutbox(trimmed):
                self.outbox = {seq: change for seq, change in self.outbox.items() if seq > trimmed}
            case effects.DropOutbox(seqs):
                for seq in seqs:
                    self.outbox.pop(seq, None)

    def _apply_to_leadership(self, record: effects.Record) -> None:
        match record:
            case effects.SaveBallot(ballot):
                self.ballot = ballot
            case effects.SaveProposal(proposal):
                self.proposals[proposal.slug, proposal.milestone, proposal.phase] = proposal
            case effects.DropProposal(slug, milestone, phase):
                self.proposals.pop((slug, milestone, phase), None)
            case effects.SaveLeadership(turn):
                self.turns.append(turn)
            case _:
                raise AssertionError(f"no disk keeps {record}")

    def stored(self) -> Stored:
        """What a node finds when it starts."""
        return Stored(
            self.store_id,
            dict(self.documents),
            tuple(self.outbox[seq] for seq in sorted(self.outbox)),
            dict(self.seqs),
            conflicts=tuple(self.conflicts.values()),
            settings=dict(self.settings),
            events=tuple(self.events),
            ballot=self.ballot,
            proposals=tuple(self.proposals.values()),
            turns=tuple(self.turns),
        )
