"""Recognition of secrets: by the name of a field, and by patterns in text.

When in doubt, text counts as a secret. The time is linear in the length of the text, because every repetition in the
patterns is bounded. The patterns are compiled at first use, because a program that captures nothing and never fails
does not need them.
"""

from __future__ import annotations

import functools
import itertools
import re
from typing import Literal, NamedTuple

__all__ = ["REDACTED", "is_secret_name", "mask_text"]

REDACTED = "[redacted]"
"""Replaces a value that is not recorded."""

_LONGEST_NAME = 256
_NUMBERS_ARE_FINE = {"token", "auth", "otp"}  # token=17 is a count

# Anywhere in a name, in any spelling: userPassword, db_passwd, X-API-Key, clientSecret.
_ANYWHERE = (
    r"passw|passphrase|secret(?!ar(?:y|ies))|credential"
    r"|(?:api|access|private|signing|encryption|account)[ _.-]?key"
)
# Only as a whole word: authority and tokenizer are not secrets, and tokens are counted.
_WORDS = {"pwd", "auth", "authorization", "token", "jwt", "bearer", "cookie", "cookies", "otp", "apikeys"}
# Most texts contain none of these, and searching for them is faster than any pattern.
_PARTS_OF_KEYS = (
    "passw", "pwd", "passphrase", "secret", "credential", "key", "auth", "token", "jwt", "bearer", "cookie", "otp",
)  # fmt: skip
_PARTS_OF_VALUES = ("bearer ", "basic ", "sk-", "gh", "xox", "akia", "eyj")
# Words that follow a colon in messages ("token: expected", "/etc/passwd: Permission denied") and are not secrets.
_MESSAGE_TEXT = """
    a access all already an and any are at authentication bad bool bytes can cannot changed check contains could denied
    disabled does enabled error expected expired failed file for forbidden found from has identifier in incorrect int
    invalid is it line malformed mismatch missing must needs no not nothing object of ok on operation optional or
    permission please read refused rejected required resource retrying revoked should started starting stopped str
    string succeeded success that the this to too try unauthorized unexpected unknown unset updated use using was wrong
    you your
"""
_MESSAGE_WORDS = frozenset(_MESSAGE_TEXT.split())
_LONGEST_WORD = 20
_LONGEST_PATH = 256
_PLURAL_AFTER = {"access", "api", "auth", "refresh", "session", "bearer", "id"}


def is_secret_name(name: str, value: object = None) -> bool:
    """Whether a field of this name and value usually holds a secret. A boolean is never one."""
    kind = type(value)
    if kind is bool:
        return False
    verdict = _classify_name(name[:_LONGEST_NAME])
    return verdict == "secret" or (verdict == "secret unless a number" and kind is not int and kind is not float)


@functools.lru_cache(1024)
def _classify_name(name: str) -> Literal["secret", "secret unless a number", "fine"]:
    patterns = _patterns()
    if patterns.anywhere.search(name):
        return "secret"
    words = [found.lower() for found in patterns.word.findall(name)]
    if any(second == "tokens" and first in _PLURAL_AFTER for first, second in itertools.pairwise(words)):
        return "secret"
    secret = _WORDS.intersection(words)
    if not secret:
        return "fine"
    return "secret unless a number" if secret <= _NUMBERS_ARE_FINE else "secret"


def mask_text(text: str) -> str:
    """``text`` with everything replaced that looks like a secret.

    That is the user part of a URL, the value in ``password=…``, ``"api_key": "…"`` and similar pairs, the text after
    ``Bearer`` or ``Basic``, and keys in the format of well-known services. Paths and messages about them stay.
    """
    lower = text.lower()
    if "://" in lower:
        text = _patterns().url.sub(rf"\1{REDACTED}\2", text)
    if ("=" in lower or ":" in lower) and any(part in lower for part in _PARTS_OF_KEYS):
        text = _patterns().pair.sub(_masked_pair, text)
    if any(part in lower for part in _PARTS_OF_VALUES):
        text = _patterns().known.sub(_masked_key, text)
    return text


def _masked_key(found: re.Match[str]) -> str:
    after_scheme, prefixed = found.group("after_scheme", "prefixed")
    if after_scheme is not None and _is_word(after_scheme):  # "basic understanding"
        return found[0]
    if prefixed is not None and not any(map(str.isdigit, prefixed)):  # "sk-learn-contributors"
        return found[0]
    return REDACTED


def _masked_pair(found: re.Match[str]) -> str:
    key, separator, scheme, value = found.group("key", "separator", "scheme", "value")
    if value.strip("\\\"'") in ("", REDACTED, "None", "null", "true", "false", "True", "False"):
        return found[0]
    if key.lower() in ("token", "auth", "tokens") and _is_number(value):
        return found[0]
    if _is_message(found, separator, value):
        return found[0]
    opening = re.match(r"\\?[\"']", value)
    quote = opening[0] if opening else ""
    return f"{found['head']}{separator}{scheme or ''}{quote}{REDACTED}{quote}"


def _is_message(found: re.Match[str], separator: str, value: str) -> bool:
    """Whether the text before the separator is a path or the subject of a sentence, not a key."""
    if separator == ":" and value.startswith(":") and value.strip(":").replace("_", "").isalpha():
        return True  # a name in a scope: auth::login
    word = value.rstrip(".,;:!?)")
    if separator[-1].isspace() and word.lower() in _MESSAGE_WORDS:
        return True
    if not separator.lstrip().startswith(":") or not _ends_a_path(found):
        return False
    if separator[-1].isspace():
        return _is_word(word)
    return _is_number(value.partition(":")[0])  # a line of the file


def _ends_a_path(found: re.Match[str]) -> bool:
    """Whether the matched key is the last part of a path."""
    start = found.start()
    before = found.string[max(0, start - _LONGEST_PATH) : start]
    path = before[max(map(before.rfind, " \t\n\"'`(=,")) + 1 :]
    return path.startswith(("/", "~/", "./", "../")) or path.count("/") > 1 or path[1:3] == ":\\"


def _is_word(text: str) -> bool:
    """Whether it looks like a word of prose."""
    return len(text) <= _LONGEST_WORD and text.isalpha() and (text.islower() or text.istitle() or text.isupper())


def _is_number(text: str) -> bool:
    return text.rstrip(".,;:)").replace(".", "", 1).isdecimal()


class _Patterns(NamedTuple):
    anywhere: re.Pattern[str]
    word: re.Pattern[str]
    url: re.Pattern[str]
    pair: re.Pattern[str]
    known: re.Pattern[str]


@functools.cache
def _patterns() -> _Patterns:
    quoted = r"\\?\"[^\"\\]{0,4096}\\?(?:\"|$)|\\?'[^'\\]{0,4096}\\?(?:'|$)"
    word = r"pwd|authorization|auth|access[ _-]?tokens?|tokens?|jwt|bearer|(?:set-)?cookie|otp"
    key = rf"(?:(?:{_ANYWHERE})|(?<![a-z])(?:{word})(?![a-z]))"
    return _Patterns(
        re.compile(_ANYWHERE, re.IGNORECASE),
        re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])"),
        # Up to the last @ before the end of the host, or to where the text was cut. A password may contain a slash.
        re.compile(
            r"(://)(?:[^\s/?#\"'<>]{1,200}|[^\s/:@\"'<>]{0,128}:(?!\d{1,5}(?:[/?#\s]|$))[^\s@\"'<>]{1,200})"
            r"(@|… \[(?=\d{1,12} characters\]$))"
        ),
        re.compile(
            rf"(?P<head>(?P<key>{key})(?:[\w-]{{0,40}})\\?[\"']?)"
            r"(?P<separator>\s{0,3}(?:=>|[=:])\s{0,3})"
            rf"(?!{key}[\w-]{{0,40}}\s{{0,3}}[:=])"  # what follows is a key itself: "auth: token: …"
            r"(?P<scheme>(?:bearer|basic|digest|token)\s{1,3})?"
            rf"(?P<value>{quoted}|[^\s,;&\"'<>()\[\]{{}}]{{1,4096}})",
            re.IGNORECASE,
        ),
        re.compile(
            r"(?<![\w-])(?:"
            r"(?P<after_scheme>(?<=bearer )[\w.~+/=-]{8,}|(?<=basic )[\w+/=-]{12,})"
            r"|(?P<prefixed>sk-[\w-]{16,})|gh[a-z]_\w{16,}|github_pat_\w{16,}|xox[a-z]-[\w-]{10,}|AKIA[0-9A-Z]{16}"
            r"|eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"
            r")",
            re.IGNORECASE,
        ),
    )
