/**
 * Changes of a case, each with the versions that it made and with what undoes it. An undo is refused if somebody has
 * changed the case since.
 */

import { newKey, Problem, request, tagOf, versionOf } from "../lib/api.js";

/**
 * @typedef {{from: number, to: number}} Versions a case's version before and after a change
 * @typedef {() => Promise<Versions>} Undo
 * @typedef {{versions: Versions, undo: Undo}} Made
 */

/** Kinds that the service takes from the other case only. @type {Record<string, string>} */
const INVERSE_KINDS = { "duplicated-by": "duplicate-of", "child-of": "parent-of" };

/** @param {string} caseId */
function pathOf(caseId) {
  return `/support/cases/${encodeURIComponent(caseId)}`;
}

/**
 * Return the versions before and after a change whose answer does not have the new one. Only what is certain is
 * counted: one too many would hide a change of a colleague.
 * @param {string} tag before it
 * @param {boolean} [isStatusChanged] too, which is another version
 * @returns {Versions}
 */
function nextAfter(tag, isStatusChanged = false) {
  return { from: versionOf(tag), to: versionOf(tag) + (isStatusChanged ? 2 : 1) };
}

/**
 * Change fields of a case.
 * @param {string} caseId
 * @param {any} before the case as it was
 * @param {Record<string, any>} changes
 * @param {string | null} tag
 * @returns {Promise<Made>}
 */
export async function change(caseId, before, changes, tag) {
  const { etag } = await patch(caseId, changes, tag);
  const former = Object.fromEntries(Object.keys(changes).map((name) => [name, before[name]]));
  const undo = () => restore(caseId, former, { wasSnoozed: before.snoozedUntil, isClosed: changes.status === "closed", tag: etag });
  return { versions: { from: versionOf(tag), to: versionOf(etag) }, undo };
}

/**
 * Let a case wait until a time.
 * @param {string} caseId
 * @param {any} before the case as it was
 * @param {string} until
 * @param {string} tag
 * @returns {Promise<Made>}
 */
export async function snooze(caseId, before, until, tag) {
  const { etag } = await setPending(caseId, until, tag);
  const undo = () => restore(caseId, { status: before.status }, { wasSnoozed: before.snoozedUntil, isClosed: false, tag: etag });
  return { versions: { from: versionOf(tag), to: versionOf(etag) }, undo };
}

/**
 * Close a case as a duplicate of another one.
 * @param {string} caseId
 * @param {string} into
 * @param {string} tag
 * @returns {Promise<Made & {original: Versions}>} with the versions of the other one
 */
export async function merge(caseId, into, tag) {
  const { etag } = await request(`${pathOf(caseId)}/merge`, { method: "POST", body: { into }, ifMatch: tag, key: newKey() });
  const versions = nextAfter(tag, true);
  const undo = async () => {
    const { data } = await request(`${pathOf(caseId)}?messagesLimit=1`);
    const added = data.links.find((/** @type {any} */ each) => each.kind === "duplicate-of" && each.caseId === into);
    if (!added) throw new Problem({ status: 412, code: "case_changed", detail: "" });
    return (await unlink(caseId, added, true, tagOf(versions.to))).versions;
  };
  return { versions, original: { from: versionOf(etag) - 1, to: versionOf(etag) }, undo };
}

/**
 * Move messages into a new case. The undo leaves that case, closed.
 * @param {string} caseId
 * @param {string[]} messageIds
 * @param {string} subject
 * @param {string} tag
 * @returns {Promise<Made>}
 */
export async function split(caseId, messageIds, subject, tag) {
  const { data, etag } = await request(`${pathOf(caseId)}/split`, { method: "POST", body: { messageIds, subject }, ifMatch: tag, key: newKey() });
  return { versions: nextAfter(tag), undo: async () => (await merge(data.id, caseId, etag ?? "")).original };
}

/**
 * Link a case with another one. A duplicate is closed.
 * @param {string} caseId
 * @param {string} kind
 * @param {string} other
 * @param {boolean} isClosed whether the case is closed
 * @param {string} tag
 * @returns {Promise<Made>}
 */
export async function link(caseId, kind, other, isClosed, tag) {
  const inverse = INVERSE_KINDS[kind];
  const [from, to] = inverse ? [other, caseId] : [caseId, other];
  const body = { kind: inverse ?? kind, caseId: to };
  const { data, status } = await request(`${pathOf(from)}/links`, { method: "POST", body, ifMatch: inverse ? undefined : tag, key: newKey() });
  const isDuplicate = kind === "duplicate-of";
  const versions = status === 201 ? nextAfter(tag, isDuplicate && !isClosed) : { from: versionOf(tag), to: versionOf(tag) }; // it was there before
  const added = { id: data.id, kind, caseId: other };
  return { versions, undo: async () => (await unlink(caseId, added, isDuplicate && !isClosed, tagOf(versions.to))).versions };
}

/**
 * Remove a link. A duplicate that it has closed is opened.
 * @param {string} caseId
 * @param {{id: string, kind: string, caseId: string}} removed
 * @param {boolean} isClosed whether the case is closed
 * @param {string} tag
 * @returns {Promise<Made>}
 */
export async function unlink(caseId, { id, kind, caseId: other }, isClosed, tag) {
  const { etag } = await request(`${pathOf(caseId)}/links/${id}`, { method: "DELETE", ifMatch: tag, key: newKey() });
  // Whether it was opened, only the service knows: it may have been closed before it was linked. The previous release does not tell.
  const versions = etag ? { from: versionOf(tag), to: versionOf(etag) } : nextAfter(tag, kind === "duplicate-of" && isClosed);
  const isStillClosed = isClosed && versions.to === versions.from + 1;
  return { versions, undo: async () => (await link(caseId, kind, other, isStillClosed, tagOf(versions.to))).versions };
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
 * @returns {Promise<Versions>}
 */
async function restore(caseId, former, { wasSnoozed, isClosed, tag }) {
  const { status } = former;
  const from = versionOf(tag);
  const steps = isClosed && status !== "open" ? [{ status: "open" }, former] : [former];
  for (const step of steps) tag = (await patch(caseId, step, tag)).etag;
  if (status === "pending" && wasSnoozed && Date.parse(wasSnoozed) > Date.now()) tag = (await setPending(caseId, wasSnoozed, tag)).etag;
  return { from, to: versionOf(tag) };
}
