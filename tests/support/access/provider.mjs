/**
 * A certified provider of OpenID Connect, for tests: `node provider.mjs OPTIONS.json`.
 *
 * People are in a file with their claims by name, which is read at each use: a test changes their groups, or removes them.
 */

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import Provider from "oidc-provider";

const read = (file) => JSON.parse(readFileSync(file, "utf8"));
const { issuer, port, address, clientId, secret, keys, people, idTokenSeconds } = read(process.argv[2]);

const PAGE = `<!doctype html><title>Company</title>
<form method="post"><label>Name <input name="name" autofocus></label> <button>Continue</button> <button name="cancel" value="yes">Cancel</button></form>`;

/** Ask whether to end the session here, too. */
function logoutSource(context, form) {
  context.body = `<!doctype html><title>Company</title>${form}<button form="op.logoutForm" name="logout" value="yes">Sign me out</button>`;
}

const provider = new Provider(issuer, {
  jwks: read(keys),
  clients: [
    {
      client_id: clientId,
      client_secret: secret,
      grant_types: ["authorization_code", "refresh_token"],
      redirect_uris: [`${address}/console/callback`],
      post_logout_redirect_uris: [`${address}/console/sign-in`],
    },
  ],
  claims: { openid: ["sub", "groups"], profile: ["preferred_username"] },
  conformIdTokenClaims: false, // the claims of the scopes are in the ID token, as with most providers of companies
  findAccount: (_context, name) => (name in read(people) ? { accountId: name, claims: () => ({ sub: name, ...read(people)[name] }) } : undefined),
  issueRefreshToken: () => true,
  rotateRefreshToken: true,
  features: {
    // The pages of the package load fonts from the internet.
    devInteractions: { enabled: false },
    rpInitiatedLogout: { logoutSource },
  },
  interactions: { url: (_context, interaction) => `/interaction/${interaction.uid}` },
  ttl: { AccessToken: 3600, Grant: 86400, IdToken: idTokenSeconds, Interaction: 3600, RefreshToken: 86400, Session: 86400 },
  cookies: { keys: ["of tests"] },
});

/** Ask who the person is, who consents to everything. */
async function interact(request, response) {
  if (request.method === "GET") return response.setHeader("Content-Type", "text/html").end(PAGE);
  const form = new URLSearchParams(await text(request));
  if (form.has("cancel")) return provider.interactionFinished(request, response, { error: "access_denied" });
  const { params } = await provider.interactionDetails(request, response);
  const grant = new provider.Grant({ accountId: form.get("name"), clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  const result = { login: { accountId: form.get("name") }, consent: { grantId: await grant.save() } };
  return provider.interactionFinished(request, response, result);
}

const serve = provider.callback();
createServer((request, response) => (request.url.startsWith("/interaction/") ? interact(request, response) : serve(request, response))).listen(port, "127.0.0.1");
