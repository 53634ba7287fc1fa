"""The hosts of a database URL, in each form that PostgreSQL's own programs take."""

from support_service.core.database_url import hosts_of
from tests.support.each import each_row


@each_row(
    ("url", "hosts"),
    [
        ("postgresql://db/support", [("db", None)]),
        ("postgresql://user:p@ss,word@db:5433/support", [("db", 5433)]),
        ("postgresql://user@db-1:1,db-2/support?target_session_attrs=read-write", [("db-1", 1), ("db-2", None)]),
        ("postgresql://[::1]:1,[fe80::2]:2/support", [("::1", 1), ("fe80::2", 2)]),
        ("postgresql:///support?host=db-1,db-2&port=1,2", [("db-1", 1), ("db-2", 2)]),
        ("postgresql:///support?host=db-1,db-2&port=5433", [("db-1", 5433), ("db-2", 5433)]),
        ("postgresql:///support?host=/run/postgresql", [("/run/postgresql", None)]),
        ("postgresql://%2Frun%2Fpostgresql/support", [("/run/postgresql", None)]),
        ("postgresql:///support", [("localhost", None)]),
    ],
)
def test_hosts_have_names_and_ports(url, hosts):
    assert hosts_of(url) == hosts
