"""What looks like a secret: names of fields that usually hold one, and stretches of text that look like one.

A guess on the safe side, in linear time whatever the text is: every repetition in the patterns is bounded. They are
compiled at first use, because a program that captures nothing and never fails needs none of them.
"""

from __future__ import annotations

import functools
import itertools
import re
from typing import Literal, NamedTuple

__all__ = ["REDACTED", "is_secret_name", "mask_text"]

REDACTED = "[redacted]"
"""What stands in the place of a value that is not recorded."""

_LONGEST_NAME = 256
_NUMBERS_ARE_FINE = {"token", "auth", "otp"}  # token=17 counts something

# Anywhere in a name, however it is written: userPassword, db_passwd, X-API-Key, clientSecret.
_ANYWHERE = (
    r"passw|passphrase|secret(?!ar(?:y|ies))|credential"
    r"|(?:api|access|private|signing|encryption|account)[ _.-]?key"
)
# Only as a word of its own: authority and tokenizer hold no secret, and tokens are counted.
_WORDS = {"pwd", "auth", "authorization", "token", "jwt", "bearer", "cookie", "cookies", "otp", "apikeys"}
# Most texts hold none of these, and looking for them costs less than any pattern.
_PARTS_OF_KEYS = (
    "passw", "pwd", "passphrase", "secret", "credential", "key", "auth", "token", "jwt", "bearer", "cookie", "otp",
)  # fmt: skip
_PARTS_OF_VALUES = ("bearer ", "basic ", "sk-", "gh", "xox", "akia", "eyj")
# What messages say after a colon ("token: expected", "/etc/passwd: Permission denied"), and no value is.
_SAID_TEXT = """
    a access all already an and any are at authentication bad bool bytes can cannot changed check contains could denied
    disabled does enabled error expected expired failed file for forbidden found from has identifier in incorrect int
    invalid is it line malformed mismatch missing must needs no not nothing object of ok on operation optional or
    permission please read refused rejected required resource retrying revoked should started starting stopped str
    string succeeded success that the this to too try unauthorized unexpected unknown unset updated use using was wrong
    you your
"""
_SAID = frozenset(_SAID_TEXT.split())
_LONGEST_WORD = 20
_LONGEST_PATH = 256
_PLURAL_AFTER = {"access", "api", "auth", "refresh", "session", "bearer", "id"}


def is_secret_name(name: str, value: object = None) -> bool:
    """Whether a field of this name and value usually holds a secret. Yes and no are no secrets."""
    kind = type(value)
    if kind is bool:
        return False
    sort = _sort_of_name(name[:_LONGEST_NAME])
    return sort == "secret" or (sort == "secret unless a number" and kind is not int and kind is not float)


@functools.lru_cache(1024)
def _sort_of_name(name: str) -> Literal["secret", "secret unless a number", "fine"]:
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
    """``text`` with what looks like a secret replaced.

    That is the user part of a URL, the value in ``password=…``, ``"api_key": "…"`` and the like, what follows
    ``Bearer`` or ``Basic``, and keys in the form of well-known services. Paths and what messages say of them stay.
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
    """Whether what stands before the separator is no key but a path, or the subject of a sentence."""
    if separator == ":" and value.startswith(":") and value.strip(":").replace("_", "").isalpha():
        return True  # a name in a scope: auth::login
    word = value.rstrip(".,;:!?)")
    if separator[-1].isspace() and word.lower() in _SAID:
        return True
    if not separator.lstrip().startswith(":") or not _ends_a_path(found):
        return False
    if separator[-1].isspace():
        return _is_word(word)
    return _is_number(value.partition(":")[0])  # a line of the file


def _ends_a_path(found: re.Match[str]) -> bool:
    """Whether the name that was taken for a key is the last part of a path."""
    start = found.start()
    before = found.string[max(0, start - _LONGEST_PATH) : start]
    path = before[max(map(before.rfind, " \t\n\"'`(=,")) + 1 :]
    return path.startswith(("/", "~/", "./", "../")) or path.count("/") > 1 or path[1:3] == ":\\"


def _is_word(text: str) -> bool:
    """Whether it is a word of prose, as far as its letters tell."""
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
        # Up to the last @ before the host ends, or to where the text was cut. A password may hold a slash.
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
