"""Role affinity: which work suits an instance, by the files that a phase will change.

Rules (design, section 8):

- `fullstack` takes everything, and everybody takes a phase that lists no files.
- Otherwise the focus of the instance, or a tag of it that is a focus, has to have a pattern that matches one of the
  files. One file is enough; a phase may suit several.
- An instance that says no focus, or a word that is none, takes everything: it rules nothing out. Tags that are no
  focus say nothing here.

What a pattern matches. A file is read as a path with `/` between its parts (a backslash is one, too), without case,
and without empty parts and `.`; a directory is listed with or without its last slash.

- `*.x` matches a path that ends with `.x`.
- A pattern with a slash matches where a part begins: `ci/` is in `.github/ci/run.sh` and not in `src/deci/run.sh`.
  With a slash at its end it wants whole parts, without one the last part may go on (`apps/ui` is in `apps/ui-kit`).
- Any other matches wherever it stands: `docker` is in `Dockerfile`, `.spec.` in `login.spec.ts`.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshd.model import Focus

PATTERNS: dict[Focus, tuple[str, ...]] = {
    Focus.FRONTEND: ("apps/ui", "components/", "*.tsx", "*.css", "tailwind", ".stories."),
    Focus.BACKEND: ("apps/server", "routes/", "services/", ".controller.", ".service."),
    Focus.INFRA: (".github/", "docker", "ci/", "deploy/", "*.yml", "*.yaml", "terraform"),
    Focus.DOCS: ("docs/", "*.md", "*.mdx", "site/"),
    Focus.QA: ("test/", "tests/", ".test.", ".spec.", "playwright", "vitest"),
}

_SUFFIXES = {
    focus: tuple(pattern[1:] for pattern in patterns if pattern.startswith("*")) for focus, patterns in PATTERNS.items()
}
_PARTS = {
    focus: tuple(f"/{pattern}" if "/" in pattern else pattern for pattern in patterns if not pattern.startswith("*"))
    for focus, patterns in PATTERNS.items()
}
_WORDS = frozenset(Focus)


def foci_of(files: Iterable[str]) -> frozenset[Focus]:
    """The foci that a phase with these files suits; all of them when there are none, fullstack always."""
    paths = [path for file in files if (path := _normal(file)) != "/"]
    if not paths:
        return _WORDS
    return frozenset({Focus.FULLSTACK} | {focus for focus in PATTERNS if any(_is_of(focus, path) for path in paths)})


def suits(focus: str | None, tags: Iterable[str], foci: frozenset[Focus]) -> bool:
    """Whether an instance of this focus and these tags takes a phase that suits `foci`."""
    return focus not in _WORDS or not foci.isdisjoint((focus, *tags))


def matches(focus: str | None, tags: Iterable[str], files: Iterable[str]) -> bool:
    """Whether an instance of this focus and these tags takes a phase with these files."""
    return suits(focus, tags, foci_of(files))


def _is_of(focus: Focus, path: str) -> bool:
    return path.removesuffix("/").endswith(_SUFFIXES[focus]) or any(part in path for part in _PARTS[focus])


def _normal(file: str) -> str:
    """The path with a slash before and after each part: `/apps/ui/`."""
    parts = [part for part in file.lower().replace("\\", "/").split("/") if part not in ("", ".")]
    return f"/{'/'.join(parts)}/" if parts else "/"
