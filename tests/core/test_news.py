"""What a step made different: paths, whole documents, and each claim that was met once."""

from __future__ import annotations

from meshd.core import documents
from meshd.core.claim import Claim, register_value
from meshd.core.documents import Document, Register
from meshd.core.news import ClaimMet, News
from meshd.model import Json, Stamp
from tests.core.claims import PATH, PLACE, SITE, claim
from tests.core.mesh import three

LIFE = Stamp(1, 0, "dev-01")


def state(utc_ms: int, fields: dict[str, Json], life: Stamp = LIFE) -> Document:
    return Document("site", life, {path: Register(Stamp(utc_ms, 0, "x"), value) for path, value in fields.items()})


def news_of(*states: Document) -> News:
    """What is new when the last of these arrives after the others."""
    *earlier, last = states
    before: Document | None = None
    for earlier_one in earlier:
        before = documents.merge(before, earlier_one)
    news = News()
    news.merged(before, documents.merge(before, last), last, "x.s")
    return news


def met(before: Claim | None, found: Claim, *, stands: bool) -> ClaimMet:
    return ClaimMet(PLACE, before, found, stands, "x.s")


FIRST, LATER = claim(1), claim(2)
HELD, TAKEN = state(2, {PATH: register_value(FIRST)}), state(3, {PATH: register_value(LATER)})


def test_a_new_document_is_new_as_a_whole() -> None:
    news = news_of(state(1, {"title": "T", PATH: register_value(FIRST)}))
    assert news.is_touched
    assert news.claims == [met(None, FIRST, stands=True)]


def test_of_an_update_the_paths_are_known_that_were_taken() -> None:
    assert news_of(state(2, {"title": "T", "goal": "G"}), state(3, {"title": "U"})).is_touched
    late = Document("site", LIFE, {**state(1, {"title": "U"}).registers, **state(3, {"goal": "H"}).registers})
    assert news_of(state(2, {"title": "T", "goal": "G"}), late).is_touched


def test_what_is_heard_again_is_no_news() -> None:
    assert news_of(HELD, HELD) == news_of(HELD, state(2, {PATH: register_value(FIRST)})) == News()
    assert not news_of(HELD, state(3, {"title": "T", PATH: register_value(LATER)}), HELD).is_touched


def test_a_claim_that_wins_and_one_that_loses_are_met() -> None:
    assert news_of(HELD, TAKEN).claims == [met(FIRST, LATER, stands=True)]
    lost = news_of(TAKEN, state(9, {PATH: register_value(FIRST)}))
    assert lost.claims == [met(LATER, FIRST, stands=False)]
    assert not lost.is_touched


def test_what_is_no_claim_is_not_met() -> None:
    news = news_of(state(1, {"title": "T"}), state(2, {PATH: "broken"}))
    assert news == News(is_touched=True)


def test_another_life_begins_without_claims_and_an_ended_one_is_gone() -> None:
    again = state(5, {PATH: register_value(FIRST)}, Stamp(4, 0, "dev-01"))
    assert news_of(TAKEN, again).claims == [met(None, FIRST, stands=True)]
    assert news_of(again, TAKEN) == News()
    ended = Document("site", LIFE, {}, ended=Stamp(9, 0, "x"))
    assert news_of(TAKEN, ended) == News(is_touched=True)
    assert news_of(ended, TAKEN).claims == [met(None, LATER, stands=False)]


def test_several_changes_of_one_step_add_up() -> None:
    news = News()
    first, second = state(1, {"title": "T"}), state(2, {"title": "U", "goal": "G"})
    news.merged(first, documents.merge(first, second), second, "x.s")
    both, third = documents.merge(first, second), state(3, {"status": "S"})
    news.merged(both, documents.merge(both, third), third, "x.s")
    assert news.is_touched
    news.clear()
    assert news == News()


def test_a_step_knows_only_its_own() -> None:
    mesh, primary, _, _ = three()
    mesh.put(primary, "site", SITE)
    assert primary.node is not None
    assert primary.node._replication.news.is_touched
    mesh.patch(primary, "site", {"title": "T"})
    assert primary.node._replication.news == News(is_touched=True)
    mesh.advance(10)
    assert primary.node._replication.news == News()
