"""Affinity: which phases suit which instances, pattern by pattern."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.affinity import PATTERNS, foci_of, matches
from meshd.model import Focus

ALL = frozenset(Focus)


@pytest.mark.parametrize(
    ("file", "foci"),
    [
        ("apps/ui/src/main.ts", {"frontend"}),
        ("apps/ui-kit/main.ts", {"frontend"}),
        ("libs/templates/src/components/", {"frontend"}),
        ("src/components", {"frontend"}),
        ("packages/app/page.tsx", {"frontend"}),
        ("theme.css", {"frontend"}),
        ("tailwind.config.ts", {"frontend"}),
        ("src/button.stories.ts", {"frontend"}),
        ("apps/server/src/index.ts", {"backend"}),
        ("src/routes/users.ts", {"backend"}),
        ("src/services/a.ts", {"backend"}),
        ("src/user.controller.ts", {"backend"}),
        ("src/user.service.ts", {"backend"}),
        (".github/CODEOWNERS", {"infra"}),
        ("Dockerfile", {"infra"}),
        ("docker-compose.yml", {"infra"}),
        ("ci/run.sh", {"infra"}),
        ("deploy/meshd.service", {"infra"}),  # `.service.` needs its second dot
        ("config.yaml", {"infra"}),
        ("terraform/main.tf", {"infra"}),
        ("docs/", {"docs"}),
        ("README.md", {"docs"}),
        ("page.MDX", {"docs"}),
        ("site/index.html", {"docs"}),
        ("test/run.py", {"qa"}),
        ("tests/run.py", {"qa"}),
        ("src/login.spec.ts", {"qa"}),
        ("playwright.config.ts", {"qa"}),
        ("vitest.config.ts", {"qa"}),
        ("apps/server/tests/unit/a.test.ts", {"backend", "qa"}),
        ("apps\\ui\\a.ts", {"frontend"}),
        ("./docs//a.txt", {"docs"}),
        ("/docs/a.txt", {"docs"}),
        # Not at the beginning of a part, or not at the end of the path:
        ("src/deci/run.ts", set()),
        ("website/index.html", set()),
        ("latest/a.ts", set()),
        ("subroutes/a.ts", set()),
        ("my-apps/ui/a.ts", set()),
        ("notes.md.bak", set()),
        ("a.tsx/b.ts", set()),
        ("libs/types/src/proto-config.ts", set()),
    ],
)
def test_which_foci_a_file_suits(file: str, foci: set[str]) -> None:
    assert foci_of([file]) == foci | {"fullstack"}


@pytest.mark.parametrize(
    ("focus", "tags", "files", "expected"),
    [
        ("fullstack", (), ("apps/server/a.ts",), True),
        ("frontend", (), ("apps/server/a.ts",), False),
        ("frontend", (), ("apps/server/a.ts", "apps/ui/a.ts"), True),
        ("frontend", ("backend",), ("apps/server/a.ts",), True),
        ("frontend", ("gpu",), ("apps/server/a.ts",), False),
        ("frontend", ("fullstack",), ("apps/server/a.ts",), True),
        ("qa", (), (), True),
        ("qa", (), ("", "./"), True),
        ("qa", (), ("src/main.c",), False),
        (None, (), ("src/main.c",), True),
        ("design", (), ("src/main.c",), True),
    ],
)
def test_what_an_instance_takes(
    focus: str | None, tags: tuple[str, ...], files: tuple[str, ...], expected: bool
) -> None:
    assert matches(focus, tags, files) is expected


@pytest.mark.parametrize("focus", PATTERNS)
def test_every_pattern_of_a_focus_matches_itself(focus: Focus) -> None:
    for pattern in PATTERNS[focus]:
        assert focus in foci_of([pattern.replace("*", "a")])


@given(st.lists(st.text(max_size=20), max_size=4), st.text(max_size=5), st.sampled_from(sorted(Focus)))
def test_more_files_never_suit_fewer(files: list[str], more: str, focus: Focus) -> None:
    if foci_of(files) != ALL:
        assert foci_of(files) <= foci_of([*files, more])
    assert focus in foci_of([]) or matches(focus, (), files)
