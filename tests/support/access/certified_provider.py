"""The provider of the npm package `oidc-provider`, which the OpenID Foundation has certified, as a process."""

import json
import urllib.error
import urllib.request
from pathlib import Path

from joserfc.jwk import generate_key

from tests.support.access.provider import CLIENT_ID, SECRET
from tests.support.servers import MissingServer, Server, find_binary, free_port

SCRIPT = Path(__file__).parent / "provider.mjs"
PACKAGE = Path(__file__).parents[3] / "node_modules/oidc-provider"


class CertifiedProvider(Server):
    """The provider, at the same address each time. Its host differs from the service's, so it is another site."""

    def __init__(self, folder):
        if not PACKAGE.exists():
            raise MissingServer("The tests need the npm package oidc-provider: run `make services` first.")
        self._binary = find_binary("node")
        self._folder = folder
        self._port = free_port()
        self.issuer = f"http://localhost:{self._port}"
        self._people = folder / "people.json"
        self.set_people(lan=["support-agents"])
        self.change_keys()

    def set_people(self, **groups):
        """Replace all people: the groups by name."""
        written = self._folder / "people.new"
        written.write_text(json.dumps({name: {"groups": each} for name, each in groups.items()}))
        written.replace(self._people)

    def change_keys(self):
        """Sign with another key from the next start on."""
        key = generate_key("RSA", 2048, auto_kid=True)
        self._key = key.as_dict(private=True) | {"use": "sig", "alg": "RS256"}

    def start(self, address):
        """Start for a service at an address, and wait until it answers."""
        keys, options, log = (self._folder / name for name in ("keys.json", "options.json", "provider.log"))
        keys.write_text(json.dumps({"keys": [self._key]}))
        wanted = {"issuer": self.issuer, "port": self._port, "address": address, "idTokenSeconds": 3600}
        wanted |= {"clientId": CLIENT_ID, "secret": SECRET, "keys": str(keys), "people": str(self._people)}
        options.write_text(json.dumps(wanted))
        self.launch([self._binary, SCRIPT, options], self._answers, log)

    def resume(self):
        self.thaw()

    def _answers(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/.well-known/openid-configuration"):
                return True
        except urllib.error.URLError:
            return False
