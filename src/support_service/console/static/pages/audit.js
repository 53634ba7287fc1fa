/** The audit log of all cases: who changed what and when, with the values before and after. The address holds the filters. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { agents } from "../lib/agents.js";
import { explain, query, request } from "../lib/api.js";
import { Element, go, html } from "../lib/page.js";
import { clockWithSeconds, day, dayKey, number, size, t, word, wordsOf } from "../lib/i18n.js";
import "../parts/audit-chain.js";
import { auditQuestions } from "../parts/audit-questions.js";
import { changed } from "../parts/timeline.js";

const HASH_LENGTH = 12; // characters of a hash that are shown
const PAGE_SIZE = 50;
const OF_PEOPLE = ["assignedAgentId", "follower", "owner", "by"]; // changes whose values are ids of people
const OF_CASES = ["linkedCaseId", "splitInto", "splitFrom"];
const OF_FIELDS = ["fields", "changedFields", "filters"]; // whose values are names of fields
const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const SHORT_ID = 8; // characters
const FILTERS = ["case", "actor", "action", "from", "to"]; // in the address

class AuditPage extends Element {
  /** @type {any[]} */
  items = [];
  /** @type {string | null} */
  nextCursor = null;
  busy = false;
  failure = "";
  /** The subjects of cases by their ids. @type {Record<string, string>} */
  subjects = {};
  /** The names of people by their ids. @type {Map<string, string>} */
  names = new Map();
  /** @type {string | null} the query of the entries that are shown */
  shown = null;

  connectedCallback() {
    super.connectedCallback();
    document.title = `${t("audit.title")} – ${t("app.name")}`;
    const moved = () => this.isConnected && this.follow();
    this.listen(window, "console:moved", moved);
    this.listen(window, "popstate", moved);
    this.follow();
    agents()
      .then((found) => this.set({ names: new Map(found.flatMap(({ id, displayName }) => (displayName ? [[id, displayName]] : []))) }))
      .catch(() => {}); // the ids say it, too
  }

  /** The filters that the address has, by name. @returns {Record<string, string>} */
  get filters() {
    const given = new URLSearchParams(location.search);
    return Object.fromEntries(FILTERS.map((name) => [name, given.get(name) ?? ""]));
  }

  follow() {
    const wanted = query(this.filters);
    if (wanted === this.shown) return;
    this.shown = wanted;
    this.set({ items: [], nextCursor: null, failure: "" });
    this.load(null);
  }

  /** @param {string | null} cursor */
  async load(cursor) {
    const { shown } = this;
    const { case: caseId, ...others } = this.filters;
    this.set({ busy: true });
    try {
      const { data } = await request(`/support/audit?${query({ ...others, caseId, limit: PAGE_SIZE, cursor })}`);
      if (shown !== this.shown) return;
      this.set({ items: cursor ? [...this.items, ...data.items] : data.items, subjects: { ...this.subjects, ...data.subjects }, nextCursor: data.nextCursor, failure: "" });
    } catch (failure) {
      if (shown === this.shown) this.set({ failure: explain(failure) });
    }
    this.set({ busy: false });
  }

  render() {
    return html`
      <main id="main" class="page">
        <h1>${t("audit.title")}</h1>
        ${this.questions()} ${this.form()}
        <audit-chain></audit-chain>
        ${this.failure ? html`<p class="error" role="alert">${this.failure}</p>` : nothing} ${this.entries()}
      </main>
    `;
  }

  questions() {
    const current = query(this.filters);
    return html`<nav class="row wrap" aria-label=${t("audit.questions")}>
      ${auditQuestions().map(([name, filters]) => html`<a class="button" href="/console/audit?${filters}" aria-current=${filters === current ? "true" : nothing}>${t(name)}</a>`)}
    </nav>`;
  }

  form() {
    const { filters } = this;
    return html`<form class="filters" role="search" @submit=${this.search}>
      <label>${t("audit.case")} <input name="case" .value=${filters.case} placeholder=${t("aside.link_case")} autocomplete="off" /></label>
      <label>${t("audit.actor")} <input name="actor" .value=${filters.actor} maxlength="255" autocomplete="off" /></label>
      <label
        >${t("audit.action")}
        <select name="action">
          <option value="">${t("audit.any_action")}</option>
          ${wordsOf("action").map((action) => html`<option value=${action} .selected=${action === filters.action}>${word("action", action)}</option>`)}
        </select></label
      >
      <label>${t("audit.from")} <input name="from" type="datetime-local" .value=${localTime(filters.from)} /></label>
      <label>${t("audit.to")} <input name="to" type="datetime-local" .value=${localTime(filters.to)} /></label>
      <div class="row">
        <button class="primary">${t("audit.show")}</button>
        ${query(filters) ? html`<button type="button" class="plain" @click=${() => go("/console/audit")}>${t("audit.clear")}</button>` : nothing}
      </div>
    </form>`;
  }

  entries() {
    if (!this.items.length) return this.failure ? nothing : html`<p class="empty" role="status">${this.busy ? t("app.loading") : t("audit.empty")}</p>`;
    /** @type {Map<string, any[]>} */
    const days = new Map();
    for (const item of this.items) days.set(dayKey(item.at), [...(days.get(dayKey(item.at)) ?? []), item]);
    return html`
      ${[...days.values()].map(
        (items) => html`<section>
          <h2>${day(items[0].at)}</h2>
          <ol class="audit">
            ${items.map((item) => this.entry(item))}
          </ol>
        </section>`,
      )}
      ${this.nextCursor ? html`<p class="more"><button ?disabled=${this.busy} @click=${() => this.load(this.nextCursor)}>${t("queue.more")}</button></p>` : nothing}
    `;
  }

  /** @param {any} item */
  entry(item) {
    return html`<li>
      <p class="meta">
        <strong>${word("action", item.action)}</strong> <bdi title=${item.actor}>${this.names.get(item.actor) ?? item.actor}</bdi> <span class="muted">${word("role", item.role)}</span>
        ${item.caseId && item.caseId !== this.filters.case ? this.case(item.caseId) : nothing}
        ${item.hash ? html`<span class="muted">#${number(item.position)} ${item.hash.slice(0, HASH_LENGTH)}</span>` : html`<span class="muted">${t("audit.unsealed")}</span>`}
        <time datetime=${item.at}>${clockWithSeconds(item.at)}</time>
      </p>
      ${item.changes
        ? html`<dl class="pairs">
            ${Object.entries(item.changes).map(
              ([name, values]) => {
                const [before, after] = differing(values);
                return html`<div><dt>${word("field", name)}</dt><dd>${before === null ? nothing : html`${this.value(name, before)} → `}${this.value(name, after)}</dd></div>`;
              },
            )}
          </dl>`
        : html`<p class="muted">${t("audit.erased")}</p>`}
    </li>`;
  }

  /** @param {string} id of a case */
  case(id) {
    return html`<a href="/console/cases/${encodeURIComponent(id)}" title=${id}><bdi>${this.subjects[id] ?? `${t("audit.case")} ${id.slice(0, 8)}`}</bdi></a>`;
  }

  /** Show a value before or after a change. @param {string} name @param {any} value */
  value(name, value) {
    if (typeof value === "string" && OF_CASES.includes(name)) return this.case(value);
    return html`<bdi>${this.textOf(name, value)}</bdi>`;
  }

  /** @param {string} name @param {any} value */
  textOf(name, value) {
    if (OF_PEOPLE.includes(name)) return this.names.get(value) ?? changed(name, value);
    if (OF_FIELDS.includes(name) && Array.isArray(value)) return value.map((each) => word("field", each)).join(", ") || "–";
    if (name === "sizeBytes" && value !== null) return size(value);
    return changed(name, Array.isArray(value) ? value.map(shortened) : shortened(value));
  }

  /** @param {SubmitEvent} event */
  search(event) {
    event.preventDefault();
    const given = Object.fromEntries([...new FormData(/** @type {HTMLFormElement} */ (event.target))].map(([name, value]) => [name, String(value).trim()]));
    const caseId = given.case.split(/[/?#]/).filter(Boolean).pop() ?? ""; // an address of a case is fine, too
    const [from, to] = [given.from, given.to].map((time) => (time ? new Date(time).toISOString() : ""));
    go(`/console/audit?${query({ ...given, case: caseId, from, to })}`);
  }
}

/** Shorten an id, which names nothing that is shown. @param {any} value */
function shortened(value) {
  return typeof value === "string" && ID.test(value) ? value.slice(0, SHORT_ID) : value;
}

/** Return the values before and after a change; of two objects only the members that differ. @param {any[]} values @returns {any[]} */
function differing(values) {
  if (!values.every((each) => each && typeof each === "object" && !Array.isArray(each))) return values;
  const [before, after] = values;
  const names = Object.keys({ ...before, ...after }).filter((name) => JSON.stringify(before[name]) !== JSON.stringify(after[name]));
  return values.map((each) => Object.fromEntries(names.map((name) => [name, each[name] ?? "–"])));
}

/** Return a time of the address as fields for times have it: local, without a zone. @param {string} at */
function localTime(at) {
  const date = new Date(at);
  if (!at || Number.isNaN(date.getTime())) return "";
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

customElements.define("audit-page", AuditPage);
