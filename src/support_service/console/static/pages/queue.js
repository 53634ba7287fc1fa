/** The queue: views at the left, the cases of one view in the middle. The address holds view, filters and search. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { agent, can, explain, newKey, Problem, query, request, tagOf } from "../lib/api.js";
import { CaseList } from "../lib/case-list.js";
import { Element, go, html, onKeys, placeOf, queueLeft } from "../lib/page.js";
import { t } from "../lib/i18n.js";
import { live } from "../lib/live.js";
import { builtInViews, queueRow, savedView, toolbar, viewLink } from "../parts/queue-parts.js";

const FILTERS = /** @type {const} */ (["q", "status", "priority", "sort"]);
const TICK = 30_000; // ms between updates of waiting times
const COUNT_INTERVAL = 60_000; // ms between counts of the views
const SEARCH_PAUSE = 250; // ms without a key after which a search starts

export class QueuePage extends Element {
  /** @type {import("../parts/queue-parts.js").View[]} */
  views = builtInViews();
  cases = new CaseList(() => this.requestUpdate());
  active = "";
  /** @type {string | null} the query of the list that is shown */
  shown = null;

  connectedCallback() {
    super.connectedCallback();
    document.title = `${t("queue.title")} – ${t("app.name")}`;
    this.listen(live, "change", (event) => this.cases.apply(event.detail));
    this.listen(live, "presence", () => this.requestUpdate());
    this.listen(live, "resync", () => this.load());
    const moved = () => this.isConnected && this.follow();
    this.listen(window, "console:moved", moved);
    this.listen(window, "popstate", moved);
    this.listen(
      document,
      "keydown",
      onKeys({
        j: () => this.move(1),
        k: () => this.move(-1),
        c: () => this.active && this.claim(this.active),
        n: () => this.cases.waiting.size && this.load(),
        "/": () => /** @type {HTMLElement | null} */ (this.querySelector("#search"))?.focus(),
      }),
    );
    this.every(TICK, () => this.requestUpdate());
    this.every(COUNT_INTERVAL, () => this.countCases());
    this.loadViews();
    this.active = queueLeft.active;
    this.follow().then(() => (this.moves ? this.move(this.moves) : this.focusActive()));
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    queueLeft.active = this.active;
  }

  get parameters() {
    return new URLSearchParams(location.search);
  }

  get view() {
    const wanted = this.parameters.get("view") ?? (can("cases:write") ? "waiting" : "all");
    return this.views.find((view) => view.id === wanted) ?? this.views[this.views.length - 1];
  }

  /** The filters of the list: those of the view, and those of the address, which take precedence. */
  get filters() {
    const own = Object.fromEntries(FILTERS.map((name) => [name, this.parameters.get(name)]).filter(([, value]) => value !== null));
    return { ...this.view.filters, ...own };
  }

  async loadViews() {
    this.views = builtInViews();
    const counted = can("views:read")
      ? request(`/support/views?limit=100`).then(({ data }) => data.items.map(savedView))
      : Promise.resolve([]);
    const saved = await counted.catch(() => []);
    this.set({ views: [...this.views.slice(0, -1), ...saved, this.views[this.views.length - 1]] });
    if (this.view.id.startsWith("saved:")) this.follow();
    this.countCases();
  }

  /** Count the cases of the views that every agent has, one after the other: the list itself comes first. */
  async countCases() {
    for (const view of this.views) {
      if (!this.isConnected || document.hidden) return;
      if (view.id.startsWith("saved:") || view.id === "all") continue;
      const answer = await request(`/support/cases/count?${query(view.filters)}`).catch(() => null);
      if (answer) Object.assign(view, answer.data);
      this.requestUpdate();
    }
  }

  /** Load the list if the address asks for another one. */
  async follow() {
    if (placeOf(location.pathname)?.page !== "queue") return;
    queueLeft.address = location.pathname + location.search;
    this.requestUpdate();
    if (query(this.filters) !== this.shown || this.cases.state === "failed") await this.load();
  }

  async load() {
    this.shown = query(this.filters);
    await this.cases.load(this.filters);
  }

  render() {
    return html`
      <div class="queue">
        <nav class="views" aria-label=${t("queue.views")}>${this.views.map((view) => viewLink(view, this.view))}</nav>
        <main id="main">
          <h1 class="visually-hidden">${t("queue.title")}: ${this.view.name}</h1>
          ${toolbar(this)} ${this.news()} ${this.list()}
        </main>
      </div>
    `;
  }

  news() {
    const { waiting, message, items } = this.cases;
    const count = waiting.size;
    return html`<div class="news" role="status">
      ${count ? html`<button class="primary" @click=${this.load}>${t("queue.new", { n: count })}</button>` : nothing}
      ${message && items.length ? html`<span class="error">${message}</span>` : nothing}
    </div>`;
  }

  list() {
    const { items, state, message, rendered, nextCursor } = this.cases;
    if (state === "failed" && !items.length) {
      return html`<div class="empty" role="alert">
        <p>${message}</p>
        <button @click=${this.load}>${t("app.retry")}</button>
      </div>`;
    }
    if (!items.length) {
      return html`<p class="empty">${state === "loading" ? t("app.loading") : this.filters.q ? t("queue.nothing_found") : t("queue.empty")}</p>`;
    }
    const now = Date.now();
    return html`
      <table class="cases" role="table" aria-busy=${state === "loading" || rendered < items.length} @focusin=${this.remember}>
        <thead role="rowgroup">
          <tr role="row">
            ${/** @type {const} */ (["subject", "customer", "status", "priority", "waiting", "assignee"]).map(
              (name) => html`<th scope="col" role="columnheader">${t(`column.${name}`)}</th>`,
            )}
          </tr>
        </thead>
        <tbody role="rowgroup">
          ${repeat(
            items.slice(0, rendered),
            (item) => item.id,
            (item) => queueRow(item, { now, active: item.id === this.active, viewers: live.othersIn(item.id).map(({ name }) => name) }),
          )}
        </tbody>
      </table>
      ${nextCursor && rendered >= items.length
        ? html`<p class="more"><button @click=${() => this.cases.loadMore()}>${t("queue.more")}</button></p>`
        : nothing}
    `;
  }

  /** Rows to move by as soon as there are some. */
  moves = 0;

  /** Move to another row: its link has the focus, so that Enter opens it. @param {number} step */
  move(step) {
    const { items, rendered } = this.cases;
    if (!items.length) this.moves += step;
    const index = items.findIndex((item) => item.id === this.active);
    const to = Math.min(Math.max(index + step, 0), items.length - 1);
    const next = items[to];
    if (!next) return;
    this.active = next.id;
    this.cases.set({ rendered: Math.max(rendered, to + 1) });
    this.focusActive();
  }

  async focusActive() {
    await this.updateComplete;
    const link = /** @type {HTMLElement | null} */ (this.querySelector(`[data-case="${CSS.escape(this.active)}"] a`));
    link?.focus({ preventScroll: true });
    link?.closest("tr")?.scrollIntoView({ block: "nearest" });
  }

  /** @param {FocusEvent} event */
  remember(event) {
    const row = /** @type {HTMLElement} */ (event.target).closest("[data-case]");
    if (row instanceof HTMLElement && row.dataset.case !== this.active) this.set({ active: row.dataset.case });
  }

  /** @param {string} caseId */
  async claim(caseId) {
    if (!can("cases:write")) return;
    const item = this.cases.find(caseId);
    if (!item || item.assignedAgentId === agent()) return;
    try {
      const read = await request(`/support/cases/${caseId}?messagesLimit=1`);
      if (read.data.assignedAgentId && read.data.assignedAgentId !== agent()) {
        throw new Problem({ status: 412, code: "claimed", detail: t("case.claimed_first", { agent: read.data.assignedAgentId }) });
      }
      const { data } = await request(`/support/cases/${caseId}`, {
        method: "PATCH",
        body: { assignedAgentId: agent() },
        ifMatch: read.etag ?? tagOf(0),
        key: newKey(),
      });
      this.cases.apply({ caseId, case: data });
      this.cases.set({ message: "" });
    } catch (failure) {
      this.cases.set({ message: explain(failure) });
    }
  }

  /**
   * @param {string} name
   * @param {string} value
   */
  filter(name, value) {
    const parameters = this.parameters;
    if (value === (this.view.filters[name] ?? "")) parameters.delete(name);
    else parameters.set(name, value);
    go(`/console/?${parameters}`, { replace: name === "q" });
  }

  /** @type {ReturnType<typeof setTimeout> | undefined} */
  typing;

  /** @param {string} text */
  search(text) {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => this.filter("q", text), SEARCH_PAUSE);
  }

  /** @param {KeyboardEvent} event */
  leaveSearch(event) {
    if (event.key !== "Enter" && event.key !== "ArrowDown") return;
    event.preventDefault();
    /** @type {HTMLElement} */ (event.target).blur();
    this.set({ active: "" });
    this.move(1);
  }
}

customElements.define("queue-page", QueuePage);
