"""What an instance finds on its disk when it starts: everything its earlier life had committed."""

from __future__ import annotations

from attrs import field, frozen

from meshd.core.documents import Change, Document
from meshd.model import JsonObject


@frozen
class Stored:
    """The whole content of a store, as one picture.

    `store_id` was made together with the database. `documents` holds ended ones too. `outbox` is in the order of
    `seq`. `seqs` is the last sequence number taken from each origin. `seen` is the content of each workspace file
    when it and its document last agreed: the base against which an edit by hand is compared.
    """

    store_id: str
    documents: dict[str, Document] = field(factory=dict)
    outbox: tuple[Change, ...] = ()
    seqs: dict[str, int] = field(factory=dict)
    seen: dict[str, JsonObject] = field(factory=dict)
