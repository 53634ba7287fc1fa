/**
 * What needs the attention of the user: changes that came while the window did not have the focus, and unread mentions.
 *
 * The title and the icon of the tab tell of these changes, and a sound does if the user has turned it on. A mention is
 * read once the page of its case is opened.
 */

import { agent, can, me, request } from "./api.js";
import { live } from "./live.js";
import { load } from "./storage.js";

const MARK = /^\(\d+\) /; // before the title of a page
const QUIET = 5_000; // ms after a sound without another one
const TONE = 660; // Hz
const LENGTH = 0.15; // s
const VOLUME = 0.05;

/** The cases with something new. @type {Set<string>} */
const missed = new Set();
let soundedAt = 0;
const LOOKING = "support-console-looking"; // a lock that the tab with the focus holds, so that no tab sounds meanwhile
/** Gives the lock back. @type {(() => void) | null} */
let lookAway = null;

/** Count from now on what concerns the user and comes while the window does not have the focus. */
export function watchAttention() {
  live.addEventListener("notification", (/** @type {any} */ { detail }) => count(detail.caseId));
  live.addEventListener("change", (/** @type {any} */ { detail }) => concernsMe(detail) && count(detail.caseId));
  for (const type of ["focus", "blur", "visibilitychange"]) addEventListener(type, look, true);
  look();
  new MutationObserver(show).observe(/** @type {Node} */ (document.querySelector("title")), { childList: true });
}

/** Whether a change is a new case, or a message of a customer, that the user has or may take. @param {any} change */
function concernsMe({ changeType, actor, message, case: item }) {
  const isNew = message?.authorType === "customer" || (changeType === "case.opened" && actor !== agent());
  if (!item || !isNew) return false;
  if (item.assignedAgentId) return item.assignedAgentId === agent();
  return !item.team || !me.teams.length || me.teams.includes(item.team);
}

/** @param {string} caseId */
function count(caseId) {
  if (document.hasFocus() && !document.hidden) return;
  missed.add(caseId);
  show();
  if (load("sound") && live.leading) soundUnlessLooking(); // one of the tabs
}

/** Sound, unless one has just sounded, or the user looks at another tab of the console. */
async function soundUnlessLooking() {
  const found = await navigator.locks?.query();
  if (Date.now() - soundedAt > QUIET && !found?.held?.some(({ name }) => name === LOOKING)) beep();
}

function look() {
  const isLooking = !document.hidden && document.hasFocus();
  if (!isLooking) {
    lookAway?.();
    lookAway = null;
    return;
  }
  lookAway ??= holdLock();
  missed.clear();
  show();
}

/** Hold the lock of who looks, and return what gives it back. */
function holdLock() {
  /** @type {() => void} */
  let release = () => {};
  const released = new Promise((resolve) => (release = () => resolve(null)));
  navigator.locks?.request(LOOKING, { mode: "shared" }, () => released);
  return release;
}

/** Also after a page has set its title. */
function show() {
  const title = document.title.replace(MARK, "");
  const wanted = missed.size ? `(${missed.size}) ${title}` : title;
  if (document.title !== wanted) document.title = wanted;
  const icon = /** @type {HTMLLinkElement} */ (document.querySelector("link[rel=icon]"));
  const file = missed.size ? "icon-new.svg" : "icon.svg";
  if (!icon.href.endsWith(`/${file}`)) icon.href = icon.href.replace(/[^/]+$/, file);
}

/** Sound a short tone. */
export function beep() {
  soundedAt = Date.now();
  const audio = new AudioContext();
  const [tone, volume] = [audio.createOscillator(), audio.createGain()];
  Object.assign(tone, { onended: () => audio.close() }).frequency.value = TONE;
  volume.gain.value = VOLUME;
  tone.connect(volume).connect(audio.destination);
  tone.start();
  tone.stop(audio.currentTime + LENGTH);
}

/** The unread mentions: ids of notifications by their cases; null until they were counted. @type {Map<string, string[]> | null} */
let mentions = null;
/** Settled once the service has answered what was marked as read. @type {Promise<unknown>} */
let marked = Promise.resolve();

live.addEventListener("notification", (/** @type {any} */ { detail }) => detail.kind === "mention" && mentions && add(mentions, detail));

/** Count the cases with an unread mention; `more`: there are further ones. @returns {Promise<{count: number, more: boolean}>} */
export async function countMentions() {
  await marked; // else a reader who comes back at once would find the case again
  const { data } = await request("/support/notifications?unread=true&kind=mention&limit=100");
  const found = new Map();
  for (const each of data.items) add(found, each);
  mentions = found;
  return { count: found.size, more: data.nextCursor !== null };
}

/** Mark the mentions in a case as read. A failure leaves them unread. @param {string} caseId */
export async function markMentionsRead(caseId) {
  if (!can("notifications:read")) return;
  if (!mentions) await countMentions().catch(() => {});
  const ids = mentions?.get(caseId);
  if (!ids) return;
  mentions?.delete(caseId);
  const answer = request("/support/notifications/read", { method: "POST", body: { ids } });
  marked = Promise.allSettled([marked, answer]);
}

/** @param {Map<string, string[]>} found @param {{id: string, caseId: string}} mention */
function add(found, { id, caseId }) {
  found.set(caseId, [...(found.get(caseId) ?? []).filter((each) => each !== id), id]);
}
