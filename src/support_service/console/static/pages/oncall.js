/** On-call: one card for each part of the service, overrides, dead letters and webhook deliveries. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { can, explain, newKey, Problem, request } from "../lib/api.js";
import { Element, html } from "../lib/page.js";
import { clock, clockWithSeconds, t, word } from "../lib/i18n.js";
import { Samples } from "../lib/samples.js";
import { databaseDown } from "../parts/database-down.js";
import { failedDeliveries } from "../parts/failed-deliveries.js";
import { cards, figures, sources } from "../parts/oncall-cards.js";

const INTERVAL = 5_000; // ms between requests for the state
const LIST_SIZE = 20; // dead letters and deliveries that are listed

/** @typedef {{path: string, items: any[], more: boolean, failure: string}} GivenUpList */

export class OnCallPage extends Element {
  /** @type {any} */
  status = null;
  /** When `status` was received. */
  receivedAt = 0;
  /** @type {Problem | null} why the newest request failed */
  problem = null;
  samples = new Samples();
  /** @type {Record<string, GivenUpList>} */
  lists = {};
  /** @type {{name: string, current: any} | null} the override that is being set */
  editing = null;
  /** @type {string} what the user is asked about before it is deleted */
  confirming = "";
  busy = false;
  message = "";
  reading = false;

  connectedCallback() {
    super.connectedCallback();
    document.title = `${t("oncall.title")} – ${t("app.name")}`;
    if (can("dead-letters:read")) this.lists.letters = { path: "/support/dead-letters", items: [], more: false, failure: "" };
    if (can("webhooks:read")) this.lists.deliveries = { path: "/support/webhook-deliveries", items: [], more: false, failure: "" };
    this.every(INTERVAL, () => this.read());
    this.listen(document, "visibilitychange", () => this.read());
    this.read();
    this.readLists();
  }

  /** Read the state, unless the page is hidden or the former request is still open. */
  async read() {
    if (this.reading || document.hidden) return;
    this.reading = true;
    try {
      const { data } = await request("/support/oncall");
      const counts = countsOf(this.status);
      this.samples.add(figures(data));
      this.set({ status: data, receivedAt: Date.now(), problem: null });
      if (counts && counts !== countsOf(data)) this.readLists();
    } catch (failure) {
      this.set({ problem: failure });
    } finally {
      this.reading = false;
    }
  }

  async readLists() {
    await Promise.all(
      Object.values(this.lists).map(async (list) => {
        try {
          const { data } = await request(`${list.path}?limit=${LIST_SIZE}`);
          Object.assign(list, { items: data.items, more: data.nextCursor !== null, failure: "" });
        } catch (failure) {
          list.failure = explain(failure);
        }
        this.requestUpdate();
      }),
    );
  }

  /** Send a change, say what failed, and read the state again. @param {() => Promise<unknown>} send */
  async change(send) {
    if (this.busy) return false;
    this.set({ busy: true, message: "" });
    let done = false;
    try {
      await send();
      done = true;
    } catch (failure) {
      this.set({ message: explain(failure) });
    }
    this.set({ busy: false, confirming: "" });
    await Promise.all([this.read(), this.readLists()]);
    return done;
  }

  /** @param {any} override */
  clear({ name, version }) {
    this.change(() => request(`/support/overrides/${name}`, { method: "DELETE", ifMatch: `"${version}"`, key: newKey() }));
  }

  /**
   * @param {GivenUpList} list
   * @param {string | number} id
   * @param {"replay" | "drop"} action
   */
  handle(list, id, action) {
    const path = `${list.path}/${encodeURIComponent(id)}`;
    return this.change(() =>
      action === "replay" ? request(`${path}/replay`, { method: "POST", key: newKey() }) : request(path, { method: "DELETE", key: newKey() }),
    );
  }

  /** Ask whether something is to be deleted; the focus stays where it was pressed. @param {string} name */
  async ask(name) {
    this.set({ confirming: name });
    await this.updateComplete;
    /** @type {HTMLElement | null} */ (this.querySelector(".failed-deliveries .danger"))?.focus();
  }

  /** @param {string} name @param {any} current */
  async edit(name, current) {
    await import("../parts/override-dialog.js");
    this.set({ editing: { name, current }, message: "" });
  }

  render() {
    return html`
      <main id="main" class="page oncall">
        <header class="oncall-head">
          <h1>${t("oncall.title")}</h1>
          ${this.status
            ? html`<p class="muted">
                ${t("oncall.replica", { replica: this.status.replica, version: this.status.version })}
                ${t("oncall.as_of", { time: clockWithSeconds(this.receivedAt) })}
              </p>`
            : nothing}
        </header>
        ${this.notices()}
        ${this.status ? html`${sources(this)} ${cards(this)}` : this.problem ? nothing : html`<p role="status">${t("app.loading")}</p>`}
        ${this.lists.letters ? failedDeliveries(this, "letters") : nothing} ${this.lists.deliveries ? failedDeliveries(this, "deliveries") : nothing}
        ${this.status ? html`<p class="muted">${t("oncall.sampled", { time: clock(this.samples.since) })}</p>` : nothing}
      </main>
      ${this.editing
        ? html`<override-dialog .name=${this.editing.name} .current=${this.editing.current} @close=${this.edited}></override-dialog>`
        : nothing}
    `;
  }

  edited() {
    this.set({ editing: null });
    this.read();
  }

  /** Say what is wrong at present, first of all that the database is down. */
  notices() {
    const databaseIsDown = this.problem?.code === "database_unavailable" || this.status?.database.status === "unavailable";
    const failing = this.status ? Object.keys(this.status).filter((name) => ["unavailable", "stale"].includes(this.status[name]?.status)) : [];
    return html`
      <div role="alert" class="oncall-notices">
        ${this.message ? html`<p class="error">${this.message}</p>` : nothing}
        ${this.problem ? html`<p class="error">${explain(this.problem)}${this.status ? ` ${t("oncall.old")}` : ""}</p>` : nothing}
        ${databaseIsDown ? databaseDown() : nothing}
      </div>
      ${this.status && !failing.length ? html`<p class="good">${t("oncall.all_good")}</p>` : nothing}
      ${failing.length
        ? html`<p class="warning"><strong>${t("oncall.attention")}</strong> ${failing.map((name) => word("card", name)).join(", ")}</p>`
        : nothing}
    `;
  }
}

/** Return what tells that the lists have changed. @param {any} status */
function countsOf(status) {
  return status && `${status.deadLetters.count} ${status.webhooks.pending}`;
}

customElements.define("oncall-page", OnCallPage);
