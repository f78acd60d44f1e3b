"""What a disk holds in the end: the records that a node asked to persist, applied one after the other.

The rule of every disk that is none, of tests and of simulations. Documents are replaced and never changed, so that a
picture of everything (`stored`) costs no copy of them.
"""

from __future__ import annotations

from typing import Self

from attrs import define, field

from meshd.core import effects
from meshd.core.ballot import MAX_TURNS, Ballot, Proposal, Turn
from meshd.core.documents import Change, Conflict, Document
from meshd.core.feature import Feature
from meshd.core.phases import Place
from meshd.core.stored import Stored
from meshd.model import JsonObject


@define(eq=False)
class Kept:
    """The content of one store, by the name of each thing."""

    store_id: str
    documents: dict[str, Document] = field(factory=dict)
    outbox: dict[int, Change] = field(factory=dict)
    seqs: dict[str, int] = field(factory=dict)
    settings: dict[str, tuple[int, JsonObject]] = field(factory=dict)
    conflicts: dict[str, Conflict] = field(factory=dict)
    events: dict[int, effects.Emit] = field(factory=dict)
    ballot: Ballot = field(factory=Ballot)
    proposals: dict[Place, Proposal] = field(factory=dict)
    turns: dict[int, Turn] = field(factory=dict)
    features: dict[str, Feature] = field(factory=dict)

    @classmethod
    def of(cls, stored: Stored) -> Self:
        """Go on from what an earlier life left."""
        return cls(
            stored.store_id,
            dict(stored.documents),
            {change.seq: change for change in stored.outbox},
            dict(stored.seqs),
            dict(stored.settings),
            {conflict.id: conflict for conflict in stored.conflicts},
            {event.id: event for event in stored.events},
            stored.ballot,
            {proposal.place: proposal for proposal in stored.proposals},
            {turn.id: turn for turn in stored.turns},
            {feature.id: feature for feature in stored.features},
        )

    def apply(self, record: effects.Record) -> None:
        """Take in one record; each of a commit in its order."""
        match record:
            case effects.SaveEvent(event):
                self.events[event.id] = event
            case effects.SaveSeq(origin, seq):
                self.seqs[origin] = seq
            case effects.SaveDocument(slug, life, ended, registers, replace):
                before = self.documents.get(slug)
                kept = {} if before is None or replace else before.registers
                self.documents[slug] = Document(slug, life, {} if ended else {**kept, **registers}, ended)
            case effects.ForgetDocument(slug):
                self.documents.pop(slug, None)
            case effects.SaveOutbox() | effects.TrimOutbox() | effects.DropOutbox():
                self._apply_to_outbox(record)
            case effects.SaveSettings(scope, revision, values):
                self.settings[scope] = (revision, values)
            case effects.TrimEvents(first):
                self.events = {number: event for number, event in self.events.items() if number >= first}
            case effects.SaveConflict(conflict):
                self.conflicts[conflict.id] = conflict
            case effects.DropConflict(name):
                self.conflicts.pop(name, None)
            case effects.SaveStoreId(store_id):
                self.store_id = store_id
            case _:
                self._apply_to_promises(record)

    def _apply_to_outbox(self, record: effects.SaveOutbox | effects.TrimOutbox | effects.DropOutbox) -> None:
        match record:
            case effects.SaveOutbox(change):
                self.outbox[change.seq] = change
            case effects.TrimOutbox(trimmed):
                self.outbox = {seq: change for seq, change in self.outbox.items() if seq > trimmed}
            case effects.DropOutbox(seqs):
                for seq in seqs:
                    self.outbox.pop(seq, None)

    def _apply_to_promises(self, record: effects.Record) -> None:
        match record:
            case effects.SaveBallot(ballot):
                self.ballot = ballot
            case effects.SaveLeadership(turn):
                self.turns[turn.id] = turn
                oldest = max(self.turns) - MAX_TURNS
                self.turns = {number: turn for number, turn in self.turns.items() if number > oldest}
            case effects.SaveProposal(proposal):
                self.proposals[proposal.place] = proposal
            case effects.DropProposal(slug, milestone, phase):
                self.proposals.pop((slug, milestone, phase), None)
            case effects.SaveFeature(feature):
                self.features[feature.id] = feature
            case effects.DropFeature(name):
                self.features.pop(name, None)
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
            events=tuple(self.events[number] for number in sorted(self.events)),
            ballot=self.ballot,
            proposals=tuple(self.proposals[place] for place in sorted(self.proposals)),
            turns=tuple(self.turns[number] for number in sorted(self.turns)),
            features=tuple(sorted(self.features.values(), key=lambda feature: (feature.claimed_ms, feature.id))),
        )
