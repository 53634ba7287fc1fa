/** The unread mentions of the user. They are read once the page of their case is opened. */

import { can, request } from "./api.js";
import { live } from "./live.js";

/** Ids of notifications by their cases; null until they were counted. @type {Map<string, string[]> | null} */
let unread = null;
/** Settled once the service has answered what was marked as read. @type {Promise<unknown>} */
let marked = Promise.resolve();

live.addEventListener("notification", (/** @type {any} */ { detail }) => detail.kind === "mention" && unread && add(unread, detail));

/** Count the cases with an unread mention; `more`: there are further ones. @returns {Promise<{count: number, more: boolean}>} */
export async function countMentions() {
  await marked; // else a reader who comes back at once would find the case again
  const { data } = await request("/support/notifications?unread=true&kind=mention&limit=100");
  const found = new Map();
  for (const each of data.items) add(found, each);
  unread = found;
  return { count: found.size, more: data.nextCursor !== null };
}

/** Mark the mentions in a case as read. A failure leaves them unread. @param {string} caseId */
export async function markMentionsRead(caseId) {
  if (!can("notifications:read")) return;
  if (!unread) await countMentions().catch(() => {});
  const ids = unread?.get(caseId);
  if (!ids) return;
  unread?.delete(caseId);
  const answer = request("/support/notifications/read", { method: "POST", body: { ids } });
  marked = Promise.allSettled([marked, answer]);
}

/** @param {Map<string, string[]>} mentions @param {{id: string, caseId: string}} mention */
function add(mentions, { id, caseId }) {
  mentions.set(caseId, [...(mentions.get(caseId) ?? []).filter((each) => each !== id), id]);
}
