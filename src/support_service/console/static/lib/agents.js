/** The directory of people: who works on cases, and how much each has. */

import { can, query, request } from "./api.js";

const FRESH = 60_000; // ms for which a page asks once
const PAGE_SIZE = 100;

/**
 * @typedef {{id: string, displayName: string | null, teams: string[], role: string | null, away: boolean, present: boolean,
 *   open: number | null, pending: number | null, atRisk: number | null, oldestWait: string | null}} AgentEntry
 */

/** @type {Promise<AgentEntry[]> | null} */
let reading = null;
let readAt = 0;

/**
 * Return all people, as they were within the last minute; nobody if the caller may not read the directory.
 * @returns {Promise<AgentEntry[]>}
 */
export async function agents() {
  if (!reading || Date.now() - readAt > FRESH) {
    readAt = Date.now();
    reading = readAll().catch((failure) => {
      forgetAgents();
      throw failure;
    });
  }
  const asked = reading;
  const found = await asked;
  return asked === reading ? found : agents(); // it may have been changed meanwhile
}

/** Read the directory again when it is needed next. */
export function forgetAgents() {
  reading = null;
}

/** Say that a person is away, or back. @param {string} id @param {boolean} away */
export async function setAway(id, away) {
  await request(`/support/agents/${encodeURIComponent(id)}`, { method: "PUT", body: { away } });
  forgetAgents();
}

/** @returns {Promise<AgentEntry[]>} */
async function readAll() {
  const found = [];
  let cursor = can("directory:read") ? "" : null;
  while (cursor !== null) {
    const { data } = /** @type {import("./api.js").Answer} */ (await request(`/support/agents?${query({ limit: PAGE_SIZE, cursor })}`));
    found.push(...data.items);
    cursor = data.nextCursor;
  }
  return found;
}
