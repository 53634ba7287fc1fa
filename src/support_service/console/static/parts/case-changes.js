/** Changes of a case, each with what undoes it. An undo is refused if somebody has changed the case since. */

import { newKey, request } from "../lib/api.js";

/** @typedef {() => Promise<unknown>} Undo */

/** @param {string} caseId */
function pathOf(caseId) {
  return `/support/cases/${encodeURIComponent(caseId)}`;
}

/**
 * Change fields of a case; return how to undo it.
 * @param {string} caseId
 * @param {any} before the case as it was
 * @param {Record<string, any>} changes
 * @param {string | null} tag
 * @returns {Promise<Undo>}
 */
export async function change(caseId, before, changes, tag) {
  const { etag } = await patch(caseId, changes, tag);
  const former = Object.fromEntries(Object.keys(changes).map((name) => [name, before[name]]));
  return () => restore(caseId, former, { wasSnoozed: before.snoozedUntil, isClosed: changes.status === "closed", tag: etag });
}

/**
 * Let a case wait until a time; return how to undo it.
 * @param {string} caseId
 * @param {any} before the case as it was
 * @param {string} until
 * @param {string | null} tag
 * @returns {Promise<Undo>}
 */
export async function snooze(caseId, before, until, tag) {
  const { etag } = await setPending(caseId, until, tag);
  return () => restore(caseId, { status: before.status }, { wasSnoozed: before.snoozedUntil, isClosed: false, tag: etag });
}

/**
 * Close a case as a duplicate of another one; return how to undo it.
 * @param {string} caseId
 * @param {string} into
 * @param {string | null} tag
 * @returns {Promise<Undo>}
 */
export async function merge(caseId, into, tag) {
  await request(`${pathOf(caseId)}/merge`, { method: "POST", body: { into }, ifMatch: tag, key: newKey() });
  return async () => {
    const { data } = await request(`${pathOf(caseId)}?messagesLimit=1`);
    const link = data.links.find((/** @type {any} */ each) => each.kind === "duplicate-of" && each.caseId === into);
    if (link) await request(`${pathOf(caseId)}/links/${link.id}`, { method: "DELETE", key: newKey() });
  };
}

/**
 * Move messages into a new case; return it and how to undo it.
 * @param {string} caseId
 * @param {string[]} messageIds
 * @param {string} subject
 * @param {string | null} tag
 * @returns {Promise<{made: any, undo: Undo}>}
 */
export async function split(caseId, messageIds, subject, tag) {
  const { data, etag } = await request(`${pathOf(caseId)}/split`, { method: "POST", body: { messageIds, subject }, ifMatch: tag, key: newKey() });
  return { made: data, undo: () => merge(data.id, caseId, etag) };
}

/** @param {string} caseId @param {Record<string, any>} body @param {string | null} tag */
function patch(caseId, body, tag) {
  return request(pathOf(caseId), { method: "PATCH", body, ifMatch: tag, key: newKey() });
}

/** @param {string} caseId @param {string | null} until @param {string | null} tag */
function setPending(caseId, until, tag) {
  return request(`${pathOf(caseId)}/status`, { method: "POST", body: { status: "pending", until }, ifMatch: tag, key: newKey() });
}

/**
 * Give a case its former values. One that was closed has to be opened first, and a snooze begins again unless its time has come.
 * @param {string} caseId
 * @param {Record<string, any>} former
 * @param {{wasSnoozed: string | null, isClosed: boolean, tag: string | null}} now
 */
async function restore(caseId, former, { wasSnoozed, isClosed, tag }) {
  const { status } = former;
  const steps = isClosed && status !== "open" ? [{ status: "open" }, former] : [former];
  for (const step of steps) tag = (await patch(caseId, step, tag)).etag;
  if (status === "pending" && wasSnoozed && Date.parse(wasSnoozed) > Date.now()) await setPending(caseId, wasSnoozed, tag);
}
