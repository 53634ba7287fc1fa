"""Databases of the processes that tests kill."""

import pytest


@pytest.fixture
def new_database(request, backend):
    if backend == "sqlite":
        template = request.getfixturevalue("sqlite_template")

        def create(folder):
            (folder / "support.db").write_bytes(template.read_bytes())
            return f"sqlite:///{folder / 'support.db'}"

        yield create
        return
    server, template, created = request.getfixturevalue("postgres"), request.getfixturevalue("postgres_template"), []

    def create_on_server(_):
        created.append(server.create_database(template))
        return server.url(created[-1])

    yield create_on_server
    for name in created:
        server.drop_database(name)
