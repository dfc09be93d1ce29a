"""What looks like a secret, by name and in text; what does not; and that looking takes linear time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjama_instrument.redaction.secret_patterns import REDACTED, is_secret_name, mask_text

SECRET_NAMES = """
    password Password PASSWORD userPassword db_password passwd pwd passphrase secret client_secret clientSecret
    SECRET_KEY token access_token accessToken refresh-token csrf_token auth authorization Authorization
    proxy-authorization api_key apiKey apikey API-KEY x-api-key private_key accessKey access_key_id credentials
    aws_credentials cookie Set-Cookie jwt bearer otp api_tokens access_tokens --token --api-key
"""
INNOCENT_NAMES = """
    key keys path query author authority authored tokenizer tokens max_tokens prompt_tokens total_tokens monkey
    passenger compass cookbook name user id url session keyboard primary_key
"""


@pytest.mark.parametrize("name", SECRET_NAMES.split())
def test_the_name_of_a_secret_is_known(name: str) -> None:
    assert is_secret_name(name, "hunter2")
    assert is_secret_name(name)


@pytest.mark.parametrize("name", INNOCENT_NAMES.split())
def test_another_name_is_not_taken_for_a_secret(name: str) -> None:
    assert not is_secret_name(name, "hunter2")


@pytest.mark.parametrize("value", [True, False])
def test_yes_and_no_are_no_secrets(value: bool) -> None:
    assert not is_secret_name("has_password", value)


def test_a_number_of_tokens_is_no_secret_but_a_password_may_be_a_number() -> None:
    assert not is_secret_name("token", 17)
    assert is_secret_name("password", 17)


SECRET_TEXTS = {
    "https://ann:hunter2@example.org/x": "https://[redacted]@example.org/x",
    "https://hunter2@github.com": "https://[redacted]@github.com",
    "postgres://ann:hun@ter2@db:5432/sales": "postgres://[redacted]@db:5432/sales",
    "postgres://ann:hunt/er2@db/sales": "postgres://[redacted]@db/sales",
    "redis://:hunter2@cache": "redis://[redacted]@cache",
    "password=hunter2": "password=[redacted]",
    "PASSWORD = hunter2, user=ann": "PASSWORD = [redacted], user=ann",
    "password: hunter2": "password: [redacted]",
    "db_password='hunter2 and more'": "db_password='[redacted]'",
    '{"password": "hunter2", "user": "ann"}': '{"password": "[redacted]", "user": "ann"}',
    r'"{\"api_key\": \"hunter2\"}"': r'"{\"api_key\": \"[redacted]\"}"',
    "{'token': 'hunter2'}": "{'token': '[redacted]'}",
    "GET /x?api_key=hunter2&page=2": "GET /x?api_key=[redacted]&page=2",
    "GET /x?access_token=hunter2": "GET /x?access_token=[redacted]",
    "Authorization: Bearer hunter2": "Authorization: Bearer [redacted]",
    "Authorization: Basic aHVudGVyMg==": "Authorization: Basic [redacted]",
    "sent Bearer hunter2hunter2 there": "sent Bearer [redacted] there",
    "Cookie: session=hunter2": "Cookie: [redacted]",
    "Incorrect key sk-proj-hunter2hunter2hunter2": "Incorrect key [redacted]",
    "ghp_hunter2hunter2hunter2": "[redacted]",
    "AWS AKIAHUNTER2HUNTER222": "AWS [redacted]",
    "jwt eyJhbGciOiJIUzI1.eyJodW50ZXIyIjox.c2ln": "jwt [redacted]",
    "aws_secret_access_key=hunter2": "aws_secret_access_key=[redacted]",
    "--client-secret=hunter2": "--client-secret=[redacted]",
    "https://ann:hunter2… [9000 characters]": "https://[redacted]… [9000 characters]",
    "auth: token: hunter2": "auth: token: [redacted]",
    "Set-Cookie: token=hunter2": "Set-Cookie: token=[redacted]",
    "/etc/passwd: password=hunter2": "/etc/passwd: password=[redacted]",
    "/run/secrets/db_password:hunter2": "/run/secrets/db_password:[redacted]",
    "/srv/app/token: hunter2": "/srv/app/token: [redacted]",
    "/srv/app/token: correcthorsebatterystaple": "/srv/app/token: [redacted]",
    "'/srv/app/token': 'swordfish'": "'/srv/app/token': '[redacted]'",
    "config/password=swordfish": "config/password=[redacted]",
    "username/password: swordfish": "username/password: [redacted]",
    r"one line\npassword: swordfish": r"one line\npassword: [redacted]",
    "password: swordfish": "password: [redacted]",
    "the token: swordfish.": "the token: [redacted]",
    "password=required": "password=[redacted]",
    "password::hunter2": "password:[redacted]",
    "Bearer AbCdEfGhIjKlMn": "Bearer [redacted]",
}


@pytest.mark.parametrize(("text", "masked"), SECRET_TEXTS.items(), ids=SECRET_TEXTS)
def test_a_secret_in_a_text_is_masked(text: str, masked: str) -> None:
    assert mask_text(text) == masked
    assert mask_text(f"failed: {text}") == f"failed: {masked}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no such file: /etc/hosts",
        "http://localhost:8080/a?b=c",
        "http://localhost:8080/users/ann@example.org",
        "ann@example.org",
        "max_tokens=4096, tokens: 17",
        "the token is invalid",
        "KeyError: 'password'",
        "password=None",
        "secret: true",
        "x=1 y=2",
        "authority: x",
        "std::vector<int>",
        "/etc/passwd: Permission denied",
        "cat: /etc/passwd: Permission denied",
        "cat: /root/.aws/credentials: No such file or directory",
        "bash: ./secret: Permission denied",
        "~/.config/api_key: not found",
        "../auth: is a directory",
        "open '/run/secrets': denied",
        "C:\\Users\\ann\\secret: not found",
        "/usr/sbin/passwd:12: bad line",
        "/srv/app/token: unreadable",
        "a/b/credentials: truncated",
        "tests/test_auth.py::test_token: failed",
        "auth::login failed",
        "passwd: Authentication token manipulation error",
        "auth: ok",
        "token: expected ')'",
        "error: secret: not found",
        "Authorization: token expired",
        "SyntaxError: Unexpected token = in JSON",
        "def f(token: str, password: bytes) -> None",
        "the password: it must be long",
        "Basic authentication failed",
        "basic understanding of arithmetic",
        "Bearer authentication is required",
        "secretary: Ann",
        "sk-learn-contributors-guide",
    ],
)
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert mask_text(text) == text


@given(st.text(st.characters()))
def test_masking_twice_is_masking_once(text: str) -> None:
    assert mask_text(mask_text(text)) == mask_text(text)


@given(st.text(st.sampled_from("abc123_"), min_size=1), st.sampled_from(["password", "api_key", "client_secret"]))
def test_no_value_of_a_secret_key_is_left(value: str, key: str) -> None:
    marked = f"<{value}>"  # so that it is not part of the rest by chance
    for text in (f"{key}='{marked}'", f'{{"{key}": "{marked}"}}', f"ftp://{value}{value}9:{value}Q@h"):
        assert marked not in mask_text(text)
        assert f"{value}Q" not in mask_text(text)


@pytest.mark.parametrize(
    "piece",
    [
        "://a:b",
        "://",
        "password",
        "password=",
        "token ",
        "a=",
        "bearer ",
        "eyJ",
        '"',
        "\\",
        "sk-",
        "x",
        "key:'",
        "@",
        "/password: a ",
        "/a/b/password: ",
        "auth: ",
        "auth::a ",
        "token: token: ",
        "password: not ",
        "bearer a",
    ],
)
def test_no_text_takes_more_than_linear_time(piece: str) -> None:
    # With a pattern that backtracks without bound this would not end within the hang guard.
    mask_text(piece * (100_000 // len(piece)))


def test_what_stands_in_is_no_secret() -> None:
    assert mask_text(REDACTED) == REDACTED
