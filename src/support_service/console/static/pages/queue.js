/** The queue: views at the left, the cases of one view beside it. The address holds view, filters and search. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { agent, can, explain, newKey, Problem, query, request, tagOf } from "../lib/api.js";
import { agents } from "../lib/agents.js";
import { CaseList } from "../lib/case-list.js";
import { Element, go, holdingKeys, html, onKeys, placeOf, queueLeft } from "../lib/page.js";
import { t } from "../lib/i18n.js";
import { live } from "../lib/live.js";
import { namesAfter } from "../lib/storage.js";
import { nameIn } from "../parts/person.js";
import { head, queueTable, rail, strip } from "../parts/queue-parts.js";
import { hide, toast } from "../parts/toast.js";
import { builtInViews, draftPrefix, savedView, takeCounts } from "../parts/views.js";

const TICK = 30_000; // ms between updates of waiting times
const COUNT_INTERVAL = 60_000; // ms between counts of the views
const SEARCH_PAUSE = 250; // ms without a key after which a search starts
const MOST_SELECTED = 500; // cases of one bulk change

/** Ids of views at the service that differ from the console's. @type {Record<string, string>} */
const STANDARD_IDS = { due: "at-risk" };

/** @typedef {import("../parts/views.js").View} View */

/** The list as it was left, so that it is there at once when its reader comes back. @type {{shown: string, view: View, list: Partial<CaseList>, scroll: number} | null} */
let leftList = null;

export class QueuePage extends Element {
  /** @type {View[]} */
  views = builtInViews();
  /** Whose views they are. */
  agent = agent();
  cases = new CaseList(() => this.requestUpdate());
  active = "";
  /** What names the list that is shown. @type {string | null} */
  shown = null;
  /** The view whose cases are shown. @type {View | null} */
  shownView = null;
  /** @type {Set<string>} */
  selected = new Set();
  /** The row from which a range is selected. */
  anchor = "";
  /** @type {typeof import("../parts/queue-bulk.js") | null} what acts on the selection, once something is selected */
  bulk = null;
  /** @type {import("../lib/agents.js").AgentEntry[]} */
  people = [];
  /** @type {Set<string>} cases with a draft in this browser */
  drafts = new Set();
  /** The number of cases in all views that match the search. @type {{count: number, more: boolean} | null} */
  everywhere = null;
  isSaving = false;

  connectedCallback() {
    super.connectedCallback();
    document.title = `${t("queue.title")} – ${t("app.name")}`;
    this.listen(live, "change", ({ detail }) => this.cases.apply(detail));
    this.listen(live, "presence", () => this.requestUpdate());
    this.listen(live, "resync", () => this.load());
    this.listen(live, "state", () => this.requestUpdate());
    const moved = () => this.isConnected && this.follow();
    this.listen(window, "console:moved", moved);
    this.listen(window, "popstate", moved);
    this.listen(window, "online", () => this.load());
    this.listen(window, "offline", () => this.requestUpdate());
    this.listen(document, "visibilitychange", () => this.cases.items.some(({ sla }) => sla) && this.cases.refreshSoon());
    this.listen(document, "keydown", (event) => this.press(event));
    this.listen(
      document,
      "keydown",
      onKeys({
        j: () => this.move(1),
        k: () => this.move(-1),
        J: () => this.extend(1),
        K: () => this.extend(-1),
        x: () => this.toggle(this.activeOrFirst),
        a: () => this.act("assign"),
        p: () => this.act("priority"),
        s: () => this.act("status"),
        t: () => this.act("tag"),
        h: () => this.act("snooze"),
        m: () => this.act("merge"),
        c: () => this.claim(this.activeOrFirst),
        n: () => this.cases.waiting.size && this.load(),
        "/": () => /** @type {HTMLElement | null} */ (this.querySelector("#search"))?.focus(),
      }),
    );
    this.every(TICK, () => this.requestUpdate());
    this.every(COUNT_INTERVAL, () => document.hidden || this.loadViews().then(() => this.countCases()));
    this.drafts = new Set(namesAfter(draftPrefix()));
    this.loadViews().then(() => this.countCases());
    this.active = queueLeft.active;
    this.open();
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    clearTimeout(this.counting);
    this.cases.stop();
    const { items, names, filters, nextCursor, readAt, rendered } = this.cases;
    queueLeft.active = this.active;
    queueLeft.ids = items.map(({ id }) => id);
    queueLeft.list = this.shown === null ? null : { items, names, filters, nextCursor, readAt, rendered };
    leftList = this.shown && this.shownView && queueLeft.list ? { shown: this.shown, view: this.shownView, list: queueLeft.list, scroll: scrollY } : null;
  }

  /** Show the list as it was left, if the address asks for it, and read it again. */
  async open() {
    const scroll = leftList?.shown === this.asked ? leftList.scroll : 0;
    if (leftList?.shown === this.asked) {
      this.cases.set({ ...leftList.list, state: "loading" });
      this.set({ shown: leftList.shown, shownView: leftList.view });
      await this.updateComplete;
      scrollTo(0, scroll);
      this.focusActive();
    }
    queueLeft.address = location.pathname + location.search;
    await this.load();
    if (this.moves) this.move(this.moves);
    else if (document.activeElement === document.body) this.focusActive();
    if (can("directory:read")) agents().then((people) => this.set({ people }), () => {});
  }

  get parameters() {
    return new URLSearchParams(location.search);
  }

  /** The view that the address names. */
  get view() {
    const wanted = this.parameters.get("view") ?? (can("cases:write") ? "waiting" : "all");
    return this.views.find((view) => view.id === wanted) ?? /** @type {View} */ (this.views.find((view) => view.id === "all"));
  }

  /** The filters of the list: those of the view, and those of the address, which take precedence. @returns {Record<string, any>} */
  get filters() {
    const own = Object.fromEntries([...this.parameters.keys()].map((name) => [name, name === "tag" ? this.parameters.getAll(name) : this.parameters.get(name)]));
    const { view: _, ...filters } = { ...this.view.filters, ...own };
    if (filters.tag) filters.tag = [filters.tag].flat().filter(Boolean);
    return Object.fromEntries(Object.entries(filters).filter(([, value]) => value?.length));
  }

  /** What names the list that the address asks for. */
  get asked() {
    return this.view.ids ? this.view.id : query(this.filters);
  }

  async loadViews() {
    const saved = can("views:read") ? await request(`/support/views?limit=100`).then(({ data }) => data.items.map(savedView), () => null) : [];
    if (saved) this.set({ views: [...this.views.filter((view) => view.group !== "saved"), ...saved] });
    if (this.view.group === "saved" && this.asked !== this.shown) await this.load();
  }

  /** Count the cases of the views: the list itself comes first. What the service does not count at once follows, one after the other. */
  async countCases() {
    const answer = can("views:read") ? await request("/support/views/counts").catch(() => null) : null;
    const standard = new Map((answer?.data.items ?? []).map((/** @type {any} */ each) => [each.id, each]));
    for (const view of this.views) {
      if (!this.isConnected || document.hidden) return;
      if (view.group === "saved" || view.id === "all") continue;
      const known = /** @type {any} */ (standard.get(STANDARD_IDS[view.id] ?? view.id));
      if (view.countUnread) await view.countUnread().catch(() => {});
      else if (view.ids) view.count = (await view.ids()).length;
      else if (known && known.query.assignedAgentId === view.filters.assignedAgentId) takeCounts(view, known);
      else Object.assign(view, await request(`/support/cases/count?${query(view.filters)}`).then(({ data }) => data, () => ({})));
      this.requestUpdate();
    }
  }

  /** Load the list if the address asks for another one, or the user works under another name. */
  async follow() {
    if (placeOf(location.pathname)?.page !== "queue") return;
    if (this.agent !== agent()) {
      this.set({ agent: agent(), views: [...builtInViews(), ...this.views.filter((view) => view.group === "saved")] });
      this.countSoon();
    }
    queueLeft.address = location.pathname + location.search;
    this.requestUpdate();
    if (this.asked !== this.shown || this.cases.state !== "ready") await this.load(); // another list may be on its way
    else this.set({ shownView: this.view });
  }

  /** Read the list that the address asks for. The one that is shown stays until then, and if it fails. */
  async load() {
    const { view, asked, cases } = this;
    const isSame = asked === this.shown;
    const before = isSame ? cases.items : [];
    const hadFocus = this.querySelector(".cases")?.contains(document.activeElement);
    const ids = await view.ids?.();
    await cases.load(ids ? { ids } : this.filters, isSame ? Math.max(before.length, 50) : 50);
    if (asked !== this.asked || cases.state !== "ready") return;
    for (const id of this.selected) if (!cases.find(id)) this.selected.delete(id);
    this.set({ shown: asked, shownView: view, active: this.placeAfter(before), everywhere: null });
    if (hadFocus && document.activeElement === document.body) this.focusActive();
    this.countEverywhere();
  }

  /** Return the row in use, or the one that has come to its place in a list that was read again. @param {any[]} before */
  placeAfter(before) {
    const { cases, active } = this;
    if (cases.find(active)) return active;
    const place = before.findIndex(({ id }) => id === active);
    if (place < 0) return "";
    const near = [...before.slice(place), ...before.slice(0, place).reverse()];
    return near.find(({ id }) => cases.find(id))?.id ?? "";
  }

  /** Count the cases that match a search in all views, if the list shows those of one view only. */
  async countEverywhere() {
    const { q, sort: _, ...others } = this.filters;
    if (!q || !Object.keys(others).length) return;
    const answer = await request(`/support/cases/count?${query({ q })}`).catch(() => null);
    if (answer && q === this.filters.q) this.set({ everywhere: answer.data });
  }

  render() {
    return html`
      <div class="queue">
        ${rail(this)}
        <main id="main">
          ${head(this)} ${strip(this)} ${this.list()} ${this.selected.size && this.bulk ? this.bulk.bar(this) : nothing}
        </main>
      </div>
      ${this.isSaving ? html`<save-view .page=${this} @close=${() => this.set({ isSaving: false })}></save-view>` : nothing}
    `;
  }

  list() {
    const { items, state, message, rendered, nextCursor } = this.cases;
    if (state === "failed" && !items.length) {
      return html`<div class="empty" role="alert">
        <p>${message}</p>
        <button @click=${this.load}>${t("app.retry")}</button>
      </div>`;
    }
    if (!items.length) return html`<p class="empty" aria-busy=${state === "loading"}>${state === "loading" ? t("app.loading") : this.filters.q ? t("queue.nothing_found") : t("queue.empty")}</p>`;
    return html`
      ${queueTable(this)}
      ${nextCursor && rendered >= items.length ? html`<p class="more"><button @click=${() => this.cases.loadMore()}>${t("queue.more")}</button></p>` : nothing}
    `;
  }

  /** The row in use, or else the first one. */
  get activeOrFirst() {
    return this.cases.find(this.active)?.id ?? this.cases.items[0]?.id ?? "";
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
    const link = /** @type {HTMLElement | null} */ (this.querySelector(`[data-case="${CSS.escape(this.active)}"] .subject a`));
    link?.focus({ preventScroll: true });
    link?.closest("tr")?.scrollIntoView({ block: "nearest" });
  }

  /** @param {FocusEvent} event */
  remember(event) {
    const row = /** @type {HTMLElement} */ (event.target).closest("[data-case]");
    if (row instanceof HTMLElement && row.dataset.case !== this.active) this.set({ active: row.dataset.case });
  }

  /** Keys that have another meaning where something has the focus. @param {KeyboardEvent} event */
  press(event) {
    if (event.defaultPrevented || document.querySelector("dialog[open], :popover-open")) return;
    if (event.key === "Escape" && this.selected.size) this.clear();
    else if (event.key === "Enter" && event.target === document.body && this.activeOrFirst) {
      event.preventDefault();
      this.openCase(this.activeOrFirst);
    }
  }

  /** @param {string} caseId */
  openCase(caseId) {
    const link = /** @type {HTMLElement | null} */ (this.querySelector(`[data-case="${CSS.escape(caseId)}"] .subject a`));
    link?.focus();
    link?.click();
  }

  /** Handle a click in the list: on a box, on a link, or beside them. @param {MouseEvent} event */
  clickRow(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const caseId = /** @type {HTMLElement | null} */ (target.closest("[data-case]"))?.dataset.case;
    if (!caseId) return;
    if (event.shiftKey && can("cases:write")) {
      if (target instanceof HTMLInputElement) target.checked = true;
      else event.preventDefault();
      this.selectTo(caseId);
    } else if (target instanceof HTMLInputElement) this.toggle(caseId);
    else if (target.closest("label")) return; // the click on its box follows
    else if (target.closest("a")) this.active = caseId;
    else if (!getSelection()?.toString()) this.openCase(caseId);
  }

  /** Select a row, or not any more. @param {string} caseId */
  toggle(caseId) {
    if (!caseId || !can("cases:write")) return;
    if (!this.selected.delete(caseId)) this.select([caseId]);
    this.set({ anchor: caseId, active: caseId });
  }

  /** @param {string[]} ids */
  select(ids) {
    for (const id of ids) if (this.selected.size < MOST_SELECTED) this.selected.add(id);
    this.requestUpdate();
    return this.loadBulk();
  }

  async loadBulk() {
    this.bulk ??= await import("../parts/queue-bulk.js");
    this.requestUpdate();
    await this.updateComplete;
  }

  /** Select the rows from the one that was selected last. @param {string} caseId */
  selectTo(caseId) {
    const places = [this.anchor || caseId, caseId].map((id) => this.cases.items.findIndex((item) => item.id === id));
    const [from, to] = [Math.min(...places), Math.max(...places)];
    this.select(this.cases.items.slice(Math.max(from, 0), to + 1).map(({ id }) => id));
    this.set({ active: caseId, anchor: this.anchor || caseId });
  }

  /** Select the row in use and the next one. @param {number} step */
  extend(step) {
    if (!can("cases:write")) return;
    if (this.active) this.select([this.active]);
    this.anchor ||= this.active;
    this.move(step);
    if (this.active) this.select([this.active]);
  }

  /** Select all rows that are shown, or none if all are. */
  toggleAll() {
    const { items } = this.cases;
    if (this.selected.size < Math.min(items.length, MOST_SELECTED)) this.select(items.map(({ id }) => id));
    else this.clear();
  }

  async clear() {
    this.selected.clear();
    this.set({ anchor: "" });
    await this.updateComplete;
    if (document.activeElement === document.body) this.focusActive();
  }

  /** Open the menu of an action on the selection, or else on the row in use. @param {string} action */
  async act(action) {
    if (!can("cases:write") || !this.activeOrFirst) return;
    if (!this.selected.size) this.toggle(this.activeOrFirst);
    await holdingKeys(async () => {
      await this.loadBulk();
      await /** @type {import("../parts/choice-menu.js").ChoiceMenu | null} */ (this.querySelector(`.bulk [data-action=${action}]`))?.open();
    });
  }

  /** Take a case, unless a colleague was faster. @param {string} caseId */
  async claim(caseId) {
    const item = this.cases.find(caseId);
    if (!item || !can("cases:write") || item.assignedAgentId === agent()) return;
    const path = `/support/cases/${encodeURIComponent(caseId)}`;
    const assign = async (/** @type {string | null} */ assignedAgentId, /** @type {string} */ ifMatch) => {
      const answer = await request(path, { method: "PATCH", body: { assignedAgentId }, ifMatch, key: newKey() });
      this.cases.patch(caseId, answer.data);
      this.countSoon();
      return answer.etag ?? "";
    };
    this.active = caseId;
    this.focusActive();
    hide();
    try {
      const read = await request(`${path}?messagesLimit=1`);
      const holder = read.data.assignedAgentId;
      if (holder && holder !== agent()) {
        this.cases.patch(caseId, { assignedAgentId: holder });
        throw new Problem({ status: 412, code: "claimed", detail: t("case.claimed_first", { agent: this.nameOf(holder) }) });
      }
      const version = await assign(agent(), read.etag ?? tagOf(0));
      toast({ text: t("queue.claimed", { subject: item.subject }), undo: () => assign(null, version) });
    } catch (failure) {
      toast({ text: explain(failure), isError: true });
    }
  }

  /** @param {string} id */
  nameOf(id) {
    return nameIn(this.cases.names, id) ?? this.people.find((each) => each.id === id)?.displayName ?? id;
  }

  /** @type {ReturnType<typeof setTimeout> | undefined} */
  counting;

  /** Count again after a change. */
  countSoon() {
    clearTimeout(this.counting);
    this.counting = setTimeout(() => this.countCases(), 1_000);
  }

  /**
   * Set a filter; an empty value removes it.
   * @param {string} name
   * @param {string | string[]} value
   */
  filter(name, value) {
    const parameters = this.parameters;
    const values = [value].flat();
    const own = [this.view.filters[name] ?? []].flat();
    parameters.delete(name);
    if (values.join("\n") !== own.join("\n")) for (const each of values.length ? values : [""]) parameters.append(name, each);
    if (!own.length && !values.join("")) parameters.delete(name);
    go(`/console/?${parameters}`, { replace: name === "q" });
  }

  /** @param {string} text */
  search(text) {
    this.later(SEARCH_PAUSE, () => this.filter("q", text));
  }

  /** Go from the search to its first case, once that is there. @param {KeyboardEvent} event */
  async leaveSearch(event) {
    if (event.key !== "Enter" && event.key !== "ArrowDown") return;
    event.preventDefault();
    const input = /** @type {HTMLInputElement} */ (event.target);
    clearTimeout(this.timer);
    this.active = "";
    if (input.value !== (this.parameters.get("q") ?? "")) {
      history.replaceState(null, "", `/console/?${new URLSearchParams([...this.parameters].filter(([name]) => name !== "q").concat(input.value ? [["q", input.value]] : []))}`);
    }
    await this.follow();
    if (this.asked !== this.shown) return; // the list of this search is not shown yet
    input.blur();
    this.move(1);
  }

  /** Open the dialog that saves the filters as a view. */
  async saveView() {
    await import("../parts/queue-save.js");
    this.set({ isSaving: true });
  }

  /** Whether the rows may be older than what the service has. */
  get isOld() {
    return this.cases.state === "failed" || !navigator.onLine;
  }
}

customElements.define("queue-page", QueuePage);
