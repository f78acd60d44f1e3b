"""Alerts stand until what they tell of is over, and are told once."""

from __future__ import annotations

from meshd.core import alerts
from meshd.core.alerts import MAX_STANDING, RULES, Alert, Alerts, Severity
from meshd.core.effects import Effect, Emit, Level, Note
from meshd.model import Now
from tests.core.mesh import EPOCH_MS

NOW = Now(1.0, EPOCH_MS)
LATER = Now(9.0, EPOCH_MS + 8000)


def events(effects: list[Effect]) -> list[Emit]:
    return [effect for effect in effects if isinstance(effect, Emit)]


def test_each_raise_and_each_clear_is_told_once() -> None:
    known = Alerts()
    note, event = known.raised(alerts.DIVERGED, "dev-02", "they differ", NOW)
    assert isinstance(note, Note)
    assert note.level is Level.ERROR
    assert "dev-02" in note.fields.values()
    assert event == Emit(
        "alert:raised",
        {
            "code": "diverged",
            "severity": "critical",
            "subject": "dev-02",
            "since": "2027-01-15T08:00:00.000Z",
            "text": "they differ",
            "fix": RULES[alerts.DIVERGED][1],
        },
    )
    assert list(known.raised(alerts.DIVERGED, "dev-02", "they still differ", LATER)) == []
    (standing,) = known.standing.values()
    assert (standing.text, standing.since_ms) == ("they still differ", EPOCH_MS)
    (cleared,) = events(list(known.cleared(alerts.DIVERGED, "dev-02")))
    assert (cleared.type, cleared.payload["text"]) == ("alert:cleared", "they still differ")
    assert list(known.cleared(alerts.DIVERGED, "dev-02")) == []


def test_subjects_have_alerts_of_their_own() -> None:
    known = Alerts()
    for subject in ("a", "b"):
        assert len(events(list(known.raised(alerts.LARGE_DOCUMENT, subject, "large", NOW)))) == 1
    assert known.subjects(alerts.LARGE_DOCUMENT) == ["a", "b"]
    assert known.subjects(alerts.DIVERGED) == []
    list(known.cleared(alerts.LARGE_DOCUMENT, "a"))
    assert known.subjects(alerts.LARGE_DOCUMENT) == ["b"]


def test_a_warning_is_logged_as_one() -> None:
    (note, _) = Alerts().add(Alert("disk-slow", Severity.WARNING, "", EPOCH_MS, "it is slow", "look at it"))
    assert isinstance(note, Note)
    assert note.level is Level.WARNING
    assert note.text == "ALERT disk-slow: it is slow; look at it"


def test_peers_that_invent_names_fill_nothing() -> None:
    known = Alerts()
    for number in range(MAX_STANDING + 5):
        list(known.raised(alerts.CLOCK_SKEW, f"x{number}", "skewed", NOW))
    assert len(known.standing) == MAX_STANDING
