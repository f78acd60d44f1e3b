"""What looks like a credential: by the name of a key, or by the text of a value.

Rules (design, section 9):

- A key is one when its name, written as one lower-case word (`apiKey`, `API_KEY`, `api-key-2`: `apikey`), ends in
  `key`, `token`, `secret` or `password`, or holds `credential`; also in the plural. `...tokens` with a number is a
  count (`maxTokens`) and no credential. What merely begins like one is none: `keyboard`, `tokenBudget`.
- A text is one when it holds a private-key block, a token that its issuer marks by a prefix, a JSON web token, or a URL
  with a password in it. Keys of objects are such texts too.

The rules would rather refuse too much: `monkey` can be renamed, a credential that was sent cannot be taken back. Every
pattern ends after a bounded number of characters, so that a hostile text costs no more than its length.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from meshd.model import Json

_NAMES = re.compile(r"(?:key|token|secret|password|passwd|passphrase)$|(?:key|secret|password)s$|credential")
_COUNTS = re.compile(r"tokens$")

_MARKED: tuple[tuple[str, str], ...] = (
    ("a private key", r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY|AGE-SECRET-KEY-1"),
    ("a GitHub token", r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{8}|github_pat_[A-Za-z0-9_]{8})"),
    ("a GitLab token", r"(?<![A-Za-z0-9])gl(?:pat|dt|rt|ptt)-[\w-]{8}"),
    ("an Anthropic key", r"(?<![A-Za-z0-9])sk-ant-[\w-]{4}"),
    ("an API key", r"(?<![A-Za-z0-9])sk-(?=[a-z-]{0,40}[0-9A-Z])[\w-]{8}"),
    ("a Stripe key", r"(?<![A-Za-z0-9])(?:[sr]k_(?:live|test)_|whsec_)[A-Za-z0-9]{8}"),
    ("a Slack token", r"(?<![A-Za-z0-9])xox[a-z]-[\w-]{8}|(?<![A-Za-z0-9])xapp-[\w-]{8}|hooks\.slack\.com/services/\w"),
    ("an AWS access key", r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{12}"),
    ("a Google key", r"(?<![A-Za-z0-9])AIza[\w-]{16}|(?<![A-Za-z0-9])ya29\.[\w-]{8}"),
    ("an npm token", r"(?<![A-Za-z0-9])npm_[A-Za-z0-9]{16}"),
    ("a PyPI token", r"(?<![A-Za-z0-9])pypi-[\w-]{16}"),
    ("a Hugging Face token", r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{16}"),
    ("a JSON web token", r"(?<![\w-])eyJ[\w-]{8,2000}\.[\w-]{4}"),
    ("a URL with a password", r"://[^\s/:@]{0,200}:[^\s/:@]{1,200}@"),
)
_TEXTS = tuple((what, re.compile(pattern)) for what, pattern in _MARKED)


def credential_key(name: str, value: Json) -> bool:
    """Whether a key of this name holds a credential; `value` is what it holds."""
    word = "".join(filter(str.isalnum, unicodedata.normalize("NFKC", name).casefold())).rstrip("0123456789")
    is_count = isinstance(value, int | float) and not isinstance(value, bool)
    return bool(_NAMES.search(word) or (_COUNTS.search(word) and not is_count))


def credential_text(text: str) -> str:
    """What credential the text holds, in words; "" when it holds none."""
    return next((what for what, pattern in _TEXTS if pattern.search(text)), "")


def shown_path(path: Iterable[str | int]) -> str:
    """A path for people and logs: `workflow.steps[2].name`. A part that is a credential itself is not shown."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        elif what := credential_text(part):
            shown += f"[{what}]"
        elif re.fullmatch(r"[\w-]{1,60}", part):
            shown += f".{part}" if shown else part
        else:
            shown += f"[{part[:60]!r}]"
    return shown
