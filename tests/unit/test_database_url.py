"""Where the database of the service is: read strictly, and shown without anything secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.errors import UsageError
from imagefactory.model.database_url import MOST_CHARACTERS, DatabaseUrl, parse_database_url
from imagefactory.settings import read_settings

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://ana@db.example.org/soe", DatabaseUrl("ana", "db.example.org", 5432, "soe")),
        ("postgresql://ana@10.0.0.1:6543/soe", DatabaseUrl("ana", "10.0.0.1", 6543, "soe")),
        ("postgresql://ana@[::1]:6543/soe", DatabaseUrl("ana", "::1", 6543, "soe")),
        ("postgresql://ana@%2Frun%2FPostgreSQL/soe", DatabaseUrl("ana", "/run/PostgreSQL", 5432, "soe")),
        ("postgresql://a%40b@DB/s%20e", DatabaseUrl("a@b", "db", 5432, "s e")),
        (
            "postgresql://ana@db/soe?sslmode=verify-full&sslrootcert=/etc/ca.pem",
            DatabaseUrl("ana", "db", 5432, "soe", (("sslmode", "verify-full"), ("sslrootcert", "/etc/ca.pem"))),
        ),
    ],
)
def test_what_it_may_be(text: str, expected: DatabaseUrl) -> None:
    assert parse_database_url(text) == expected
    assert parse_database_url(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"postgresql://ana:{SECRET}@db/soe", "has a password"),
        (f"postgresql://ana:{SECRET}/2@db/soe", "port"),
        ("postgresql://ana:@db/soe", "has a password"),
        (f"postgresql://ana@db/soe?password={SECRET}", "has a password"),
        (f"postgresql://ana@db/soe?sslpassword={SECRET}", "has a password"),
        (f"postgresql://{SECRET}", "names no"),
        (f"mysql://ana@db/{SECRET}", "something else"),
        ("postgresql://ana@db/soe#x", "something else"),
        ("/srv/records.db", "something else"),
        ("postgresql://db/soe", "names no user"),
        ("postgresql://ana@db", "names no database"),
        ("postgresql://ana@db/a/b", "names no database"),
        (f"postgresql://ana@db/{'x' * 64}", "names no database"),
        (f"postgresql://{'é' * 32}@db/soe", "names no user"),
        ("postgresql://ana@db/a%00b", "names no database"),
        ("postgresql://ana@/soe", "names no host"),
        ("postgresql://ana@one,two/soe", "names no host"),
        ("postgresql://ana@%2Frun%0A/soe", "cannot be shown"),
        ("postgresql://ana@db:99999/soe", "port"),
        ("postgresql://ana@db:0/soe", "port"),
        ("postgresql://ana@db:x/soe", "port"),
        ("postgresql://ana@[::1/soe", "host"),
        ("postgresql://ana@db/soe?sslmode=maybe", "sslmode is one of"),
        ("postgresql://ana@db/soe?sslkey=key.pem", "absolute path"),
        (f"postgresql://ana@db/soe?host={SECRET}", "its options are"),
        (f"postgresql://ana@db/soe?service={SECRET}", "its options are"),
        ("postgresql://ana@db/soe?options=-c%20x=y", "its options are"),
        ("postgresql://ana@db/soe?sslmode", "no list of options"),
        ("postgresql://ana@db/soe?sslmode=require&sslmode=disable", "twice"),
        ("postgresql://ana@db/soe?" + "&".join(["sslmode=require"] * 11), "no list of options"),
        ("postgresql://ana@db/" + "x" * MOST_CHARACTERS, "longer than"),
        ("postgresql://ana@db/soe\n", "cannot be shown"),
    ],
)
def test_what_it_may_not_be(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        parse_database_url(text)
    assert caught.value.exit_code == 2
    assert SECRET not in f"{caught.value}{caught.value.advice}{caught.value.__cause__}"


@given(st.text(max_size=200) | st.text(max_size=100).map("postgresql://ana@db/soe?{}".format))
def test_anything_is_read_or_refused(text: str) -> None:
    try:
        url = parse_database_url(text)
    except UsageError:
        return
    assert parse_database_url(str(url)) == url


names = st.text(min_size=1, max_size=15).filter(lambda text: text.isprintable() and "/" not in text)


@given(names, names, st.integers(1, 65535), st.sampled_from(["db", "10.0.0.1", "::1", "/run/x", "/a b/%:@"]))
def test_what_is_written_is_read_again(user: str, name: str, port: int, host: str) -> None:
    url = DatabaseUrl(user, host, port, name, (("passfile", "/a&b=c"),))
    assert parse_database_url(str(url)) == url


def test_the_environment_says_it() -> None:
    environ = {"HOME": "/home/ana", "IMAGEFACTORY_DATABASE": "postgresql://ana@db/soe"}
    settings = read_settings(environ)
    assert settings.database == DatabaseUrl("ana", "db", 5432, "soe")
    assert settings.has_records
    alone = read_settings({"HOME": "/home/ana"})
    assert str(alone.database) == "/home/ana/.local/share/imagefactory/imagefactory.db"
    assert not alone.has_records
