/** The list of cases of the queue: its pages, and the changes that the stream reports. */

import { explain, query, request } from "./api.js";

const PAGE_SIZE = 50;
const STEP = 25; // rows rendered at once, so that the browser can show and answer between two steps
const EXACT = ["status", "priority", "assignedAgentId", "team", "channel", "customerId"]; // filters by a field's value

/** A list with filters; after each change it calls `changed`, so that the page renders it. */
export class CaseList {
  /** @type {any[]} */
  items = [];
  /** The number of rows that are rendered at most. */
  rendered = STEP;
  /** @type {string | null} */
  nextCursor = null;
  /** @type {"loading" | "ready" | "failed"} */
  state = "loading";
  message = "";
  /** @type {Set<string>} cases that the stream reported and that the list does not show yet */
  waiting = new Set();
  /** @type {Record<string, any>} of the list that is shown */
  filters = {};
  /** @type {Set<string>} cases whose clocks are to be read */
  #outdated = new Set();
  #readingClocks = false;
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

  /** Load the first page, and keep the rows of the former list until it is there. @param {Record<string, any>} filters */
  async load(filters) {
    this.#loading.abort();
    this.#loading = new AbortController();
    this.set({ filters, state: "loading", waiting: new Set() });
    await this.#fetchPage(null);
  }

  /** Load the next page. */
  async loadMore() {
    await this.#fetchPage(this.nextCursor);
  }

  /** @param {string | null} cursor */
  async #fetchPage(cursor) {
    const signal = this.#loading.signal;
    const { sort, ...filters } = this.filters;
    const asked = { ...filters, ...(sort && sort !== "newest" ? { sort } : {}), limit: PAGE_SIZE, cursor };
    try {
      const { data } = await request(`/support/cases?${query(asked)}`, { signal });
      const items = cursor ? [...this.items, ...data.items] : data.items;
      this.set({ items, nextCursor: data.nextCursor, state: "ready", message: "" });
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
    if (this.find(change.caseId)?.sla && change.case && !change.case.sla) this.#readClocks(change.caseId);
    const belongs = matches(change.case, this.filters);
    if (!this.#merge(change.caseId, { ...change.case, left: belongs === false }) && belongs) this.waiting.add(change.caseId);
    this.#changed();
  }

  /**
   * Change a row; return whether the list has it.
   * @param {string} caseId
   * @param {Record<string, any>} values
   */
  #merge(caseId, values) {
    const index = this.items.findIndex((item) => item.id === caseId);
    if (index >= 0) this.items = this.items.with(index, { ...this.items[index], ...values });
    return index >= 0;
  }

  /** Read the clocks of a case, which the stream does not send. One after the other, each case once. @param {string} caseId */
  async #readClocks(caseId) {
    this.#outdated.add(caseId);
    if (this.#readingClocks) return;
    this.#readingClocks = true;
    for (const id of this.#outdated) {
      this.#outdated.delete(id);
      const answer = await request(`/support/cases/${id}?messagesLimit=1`).catch(() => null);
      if (answer && this.#merge(id, { sla: answer.data.sla })) this.#changed();
    }
    this.#readingClocks = false;
  }
}

/**
 * Return whether a case belongs to a list with these filters; null if only the service can tell.
 * @param {Record<string, any>} item
 * @param {Record<string, any>} filters
 */
function matches(item, filters) {
  if (!item) return false; // the caller may not see it any more
  const { sort: _, tag = [], ...others } = filters;
  if (![tag].flat().every((each) => item.tags.includes(each))) return false;
  let isCertain = true;
  for (const [name, value] of Object.entries(others)) {
    if (!value) continue;
    if (!EXACT.includes(name)) isCertain = false;
    else if (value === "none" ? item[name] !== null : !String(value).split(",").includes(item[name])) return false;
  }
  return isCertain || null;
}
