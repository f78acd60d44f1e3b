"""What an instance finds on its disk when it starts: everything its earlier life had committed."""

from __future__ import annotations

from attrs import field, frozen

from meshd.core.ballot import Ballot, Proposal, Turn
from meshd.core.documents import Change, Conflict, Document
from meshd.core.effects import Emit
from meshd.core.feature import Feature
from meshd.model import JsonObject


@frozen
class Stored:
    """The whole content of a store, as one picture.

    `store_id` was made together with the database. `documents` holds ended ones too. `outbox` is in the order of
    `seq`. `seqs` is the last sequence number taken from each origin. `seen` is the content of each workspace file
    when it and its document last agreed: the base against which an edit by hand is compared. `conflicts` are in the
    order in which they were found. `settings` holds revision and values by scope (`shared`, `local`). `events` are the
    latest, in the order of their ids. `turns` are the latest of the leadership history, in the order of their ids.
    `features` are in the order in which they were claimed.
    """

    store_id: str
    documents: dict[str, Document] = field(factory=dict)
    outbox: tuple[Change, ...] = ()
    seqs: dict[str, int] = field(factory=dict)
    seen: dict[str, JsonObject] = field(factory=dict)
    conflicts: tuple[Conflict, ...] = ()
    settings: dict[str, tuple[int, JsonObject]] = field(factory=dict)
    events: tuple[Emit, ...] = ()
    ballot: Ballot = field(factory=Ballot)
    proposals: tuple[Proposal, ...] = ()
    turns: tuple[Turn, ...] = ()
    features: tuple[Feature, ...] = ()
