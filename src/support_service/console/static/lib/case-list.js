/** The list of cases of the queue: its pages, the changes that the stream reports, and up to when each case was seen. */

import { explain, me, query, request } from "./api.js";
import { load, save } from "./storage.js";

const PAGE_SIZE = 50;
const LARGEST_PAGE = 200; // rows of one request
const STEP = 12; // rows rendered at once, about as many as a window shows, so that the browser can show and answer between two steps
const PAUSE = 100; // ms for which changes of the stream are collected, so that a burst of them is rendered once
const REFRESH_PAUSE = 1_000; // ms at least between two requests for what the stream does not send
const AT_ONCE = 5; // cases of a list of ids that are read at the same time
const MOST_SEEN = 1_000; // cases; of those that were seen longest ago nothing is kept
const EXACT = ["status", "priority", "assignedAgentId", "team", "channel", "customerId"]; // filters by a field's value

/** @typedef {Record<string, any>} Filters those of `GET /support/cases`, or `ids` alone: a list that the browser keeps */

/** A list with filters; after each change it calls `changed`, so that the page renders it. */
export class CaseList {
  /** @type {any[]} */
  items = [];
  /** Display names of people by their ids. @type {Record<string, string>} */
  names = {};
  /** The number of rows that are rendered at most. */
  rendered = STEP;
  /** @type {string | null} */
  nextCursor = null;
  /** @type {"loading" | "ready" | "failed"} */
  state = "loading";
  message = "";
  /** When the rows were read. @type {Date | null} */
  readAt = null;
  /** @type {Set<string>} cases that the stream reported and that the list does not show yet */
  waiting = new Set();
  /** @type {Filters} of the list that is shown */
  filters = {};
  /** @type {any[]} */
  #changes = [];
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #applying;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #refreshing;
  #loading = new AbortController();
  #changed;

  /** @param {() => void} changed */
  constructor(changed) {
    this.#changed = changed;
  }

  /** Change fields and render. @param {Partial<CaseList>} changes */
  set(changes) {
    Object.assign(this, changes);
    this.#changed();
  }

  /** @param {string} caseId */
  find(caseId) {
    return this.items.find((item) => item.id === caseId);
  }

  /**
   * Load the first page. The former list stays until it is there, and also if it fails.
   * @param {Filters} filters
   * @param {number} [size] rows that are wanted
   */
  async load(filters, size = PAGE_SIZE) {
    this.#loading.abort();
    this.#loading = new AbortController();
    this.set({ state: "loading" });
    await this.#show(filters, null, size);
  }

  /** Load the next page. */
  async loadMore() {
    await this.#show(this.filters, this.nextCursor, PAGE_SIZE);
  }

  /** Ask for nothing more. */
  stop() {
    this.#loading.abort();
    clearTimeout(this.#applying);
    clearTimeout(this.#refreshing);
    this.#applying = this.#refreshing = undefined;
  }

  /**
   * @param {Filters} filters
   * @param {string | null} cursor
   * @param {number} size
   */
  async #show(filters, cursor, size) {
    const { signal } = this.#loading;
    try {
      const { items, names, nextCursor } = await read(filters, cursor, Math.min(size, LARGEST_PAGE), signal);
      if (signal.aborted || (cursor && cursor !== this.nextCursor)) return; // the page is there already
      const shown = cursor ? { items: [...this.items, ...items] } : { items, filters, waiting: new Set(), readAt: new Date() };
      this.set({ ...shown, names: { ...this.names, ...names }, nextCursor, state: "ready", message: "" });
      await this.#renderAll();
    } catch (failure) {
      if (!signal.aborted) this.set({ state: "failed", message: explain(failure) });
    }
  }

  async #renderAll() {
    while (this.rendered < this.items.length) {
      await new Promise((resume) => setTimeout(resume));
      this.set({ rendered: this.rendered + STEP });
    }
  }

  /** Apply a change that the stream reported: rows change in place, and new ones wait. @param {any} change */
  apply(change) {
    this.#changes.push(change);
    this.#applying ??= setTimeout(() => this.#applyAll(), PAUSE);
  }

  #applyAll() {
    this.#applying = undefined;
    const places = new Map(this.items.map((item, index) => [item.id, index]));
    const items = [...this.items];
    let isOutdated = false;
    for (const { caseId, case: changed } of this.#changes.splice(0)) {
      const belongs = matches(changed, this.filters);
      const place = places.get(caseId);
      if (place !== undefined) {
        items[place] = { ...items[place], ...changed, isGone: belongs === false };
        isOutdated ||= Boolean(changed && !changed.sla && items[place].sla);
      } else if (belongs) this.waiting.add(caseId);
      else if (belongs === false) this.waiting.delete(caseId);
    }
    this.set({ items });
    if (isOutdated) this.refreshSoon();
  }

  /** Change the values of a row after a change that was made here. @param {string} caseId @param {Record<string, any>} values */
  patch(caseId, values) {
    const items = this.items.map((item) => {
      if (item.id !== caseId) return item;
      const changed = { ...item, ...values };
      return { ...changed, isGone: matches(changed, this.filters) === false };
    });
    this.set({ items });
  }

  /** Read the rows again: their clocks, which the stream does not send, change with the case. */
  refreshSoon() {
    this.#refreshing ??= setTimeout(() => this.#refresh(), REFRESH_PAUSE);
  }

  async #refresh() {
    this.#refreshing = undefined; // a change from now on needs another read
    const { signal } = this.#loading;
    const size = Math.min(Math.max(this.items.length, 1), LARGEST_PAGE);
    const found = document.hidden ? null : await read(this.filters, null, size, signal).catch(() => null);
    if (!found || signal.aborted) return;
    const byId = new Map(found.items.map((item) => [item.id, item]));
    const newest = (/** @type {any} */ item) => {
      const other = byId.get(item.id);
      return other && other.updatedAt >= item.updatedAt ? { ...item, ...other, isGone: false } : item;
    };
    this.set({ items: this.items.map(newest), names: { ...this.names, ...found.names } });
  }
}

/**
 * Read a page of a list, or the cases of a list of ids.
 * @param {Filters} filters
 * @param {string | null} cursor
 * @param {number} limit
 * @param {AbortSignal} signal
 * @returns {Promise<{items: any[], names?: Record<string, string>, nextCursor: string | null}>}
 */
async function read({ ids, sort, ...filters }, cursor, limit, signal) {
  if (ids) return { items: await readAll(ids.slice(0, limit), signal), nextCursor: null };
  const asked = { ...filters, ...(sort && sort !== "newest" ? { sort } : {}), limit, cursor };
  return (await request(`/support/cases?${query(asked)}`, { signal })).data;
}

/** Read cases, without those that the caller does not see any more. @param {string[]} ids @param {AbortSignal} signal */
async function readAll(ids, signal) {
  const found = [];
  for (let from = 0; from < ids.length; from += AT_ONCE) {
    const some = ids.slice(from, from + AT_ONCE).map(async (id) => {
      try {
        return [(await request(`/support/cases/${encodeURIComponent(id)}?messagesLimit=1`, { signal })).data];
      } catch (/** @type {any} */ failure) {
        if (failure.status === 404 || failure.status === 403) return [];
        throw failure;
      }
    });
    found.push(...(await Promise.all(some)).flat());
  }
  return found;
}

/**
 * Return whether a case belongs to a list with these filters; null if only the service can tell.
 * @param {Record<string, any>} item
 * @param {Filters} filters
 */
function matches(item, filters) {
  if (!item) return false; // the caller may not see it any more
  const { sort: _, ids, tag = [], snoozed, ...others } = filters;
  if (ids) return ids.includes(item.id);
  if (![tag].flat().every((each) => !each || item.tags.includes(each))) return false;
  if (snoozed && snoozed !== String(item.snoozedUntil !== null)) return false;
  let isCertain = true;
  for (const [name, value] of Object.entries(others)) {
    if (!value) continue;
    if (!EXACT.includes(name)) isCertain = false;
    else if (value === "none" ? item[name] !== null : !String(value).split(",").includes(item[name])) return false;
  }
  return isCertain || null;
}

/** Up to when each case was seen, in the browser: the service does not store who has read what. @type {Record<string, string> | null} */
let seen = null;
addEventListener("storage", () => (seen = null)); // another tab has seen some

function seenCases() {
  seen ??= /** @type {Record<string, string>} */ (load(`seen:${me.name}`) ?? {});
  return seen;
}

/** Note that a case was seen as it was at a time of the service, its `updatedAt`. @param {string} caseId @param {string} updatedAt */
export function noteSeen(caseId, updatedAt) {
  const { [caseId]: before, ...others } = seenCases();
  if (before && Date.parse(before) >= Date.parse(updatedAt)) return;
  seen = Object.fromEntries([...Object.entries(others), [caseId, updatedAt]].slice(-MOST_SEEN));
  save(`seen:${me.name}`, seen);
}

/** Whether an unfinished case has a message that was not seen in this browser. @param {any} item a row */
export function isUnread(item) {
  if (item.status !== "open" && item.status !== "pending") return false;
  const until = seenCases()[item.id];
  return !until || Date.parse(item.lastMessageAt ?? item.createdAt) > Date.parse(until);
}
