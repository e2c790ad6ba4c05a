from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli import app
from service.domain.keys import Key, KeyScope, digest_secret
from service.registry import keys
from service.registry.database import Database

KEY = re.compile(r"voc_[a-z0-9]{8}_[A-Za-z0-9_-]{43}")


@pytest.fixture
def new_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a service that has never run."""
    home = tmp_path / "never" / "run"
    monkeypatch.setenv("VOCATION_HOME", str(home))
    return home


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments])


def created(*arguments: str) -> str:
    result = run("create", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()[-1]


def listed(home: Path) -> dict[str, Key]:
    database = Database(f"sqlite:///{home / 'registry.sqlite'}")
    with database.read() as connection:
        found = {key.name: key for key in keys.list_keys(connection)}
    database.close()
    return found


def test_the_new_key_is_alone_on_the_last_line_and_only_there(new_home: Path) -> None:
    result = run("create", "--name", "bot", "--scope", "classify")
    assert result.exit_code == 0, result.output
    *told, key = result.stdout.splitlines()
    assert KEY.fullmatch(key)
    assert not KEY.search("\n".join(told))
    assert listed(new_home)["bot"].secret_digest == digest_secret(key[13:].encode())


def test_the_key_is_stored_nowhere_in_the_home(new_home: Path) -> None:
    secret = created("--name", "bot", "--scope", "admin")[13:].encode()
    files = [path for path in new_home.rglob("*") if path.is_file()]
    assert files
    assert not any(secret in path.read_bytes() for path in files)


def test_a_key_may_have_several_scopes_an_end_and_a_limit(new_home: Path) -> None:
    before = datetime.now(UTC)
    options = ["--scope", "classify", "--scope", "register", "--expires-in-days", "30"]
    created("--name", "bot", *options, "--requests-per-minute", "600")
    key = listed(new_home)["bot"]
    assert key.scopes == {KeyScope.CLASSIFY, KeyScope.REGISTER}
    assert key.requests_per_minute == 600
    assert key.expires_at is not None
    lasts = key.expires_at - before
    assert timedelta(days=30) <= lasts < timedelta(days=30, minutes=1)


def test_the_list_shows_every_key_and_no_secret(new_home: Path) -> None:
    texts = [created("--name", name, "--scope", "classify") for name in ("one", "two")]
    created("--name", "three", "--scope", "admin", "--requests-per-minute", "60")
    assert run("revoke", "two").exit_code == 0
    header, *rows = run("list").stdout.splitlines()
    columns = ["id", "name", "scopes", "created", "expires", "revoked", "requests/min"]
    assert header.split() == columns
    cells = {row.split()[1]: row.split() for row in rows}
    assert set(cells) == {"one", "two", "three"}
    assert cells["one"][0] == texts[0][4:12]
    assert cells["one"][4:] == ["never", "-", "-"]
    assert cells["two"][5] != "-"
    assert cells["three"][2:7:4] == ["admin", "60"]
    shown = run("list").output
    assert not any(text[13:] in shown for text in texts)
    assert not any(key.secret_digest.hex() in shown for key in listed(new_home).values())


def test_an_empty_list_says_its_columns(new_home: Path) -> None:
    assert len(run("list").stdout.splitlines()) == 1


def test_a_key_is_revoked_by_name_or_by_id_once_and_for_all(new_home: Path) -> None:
    created("--name", "one", "--scope", "classify")
    two = created("--name", "two", "--scope", "classify")
    for named in ("one", two[4:12], "one"):
        assert run("revoke", named).exit_code == 0
    assert all(key.revoked_at is not None for key in listed(new_home).values())


def test_to_rotate_is_to_create_another_and_to_revoke_the_old(new_home: Path) -> None:
    created("--name", "bot-1", "--scope", "classify")
    created("--name", "bot-2", "--scope", "classify")
    run("revoke", "bot-1")
    valid = [key.name for key in listed(new_home).values() if key.revoked_at is None]
    assert valid == ["bot-2"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["create", "--name", "bot", "--scope", "admin"], "A key has this name"),
        (["revoke", "nobody"], "No key has this name"),
        (["create", "--name", "two words", "--scope", "admin"], "letters, digits"),
        (["create", "--name", "x", "--scope", "everything"], "everything"),
        (["create", "--name", "x"], "--scope"),
        (["create", "--name", "x", "--scope", "admin", "--expires-in-days", "0"], "days"),
        (["create", "--name", "x", "--scope", "admin", "--requests-per-minute", "0"], "minute"),
    ],
)
def test_a_mistake_ends_with_status_2_and_says_what_is_wrong(
    new_home: Path, arguments: list[str], told: str
) -> None:
    created("--name", "bot", "--scope", "classify")
    result = run(*arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert not KEY.search(result.output)
    assert set(listed(new_home)) == {"bot"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "localhost"])  # noqa: S104  # refused
def test_serving_beyond_loopback_is_refused_without_a_key(new_home: Path, host: str) -> None:
    result = CliRunner().invoke(app, ["serve", "--host", host])
    assert result.exit_code == 2
    assert "No key is configured" in result.stderr
    assert "vocation keys create" in result.stderr
    assert "VOCATION_OPEN" in result.stderr
