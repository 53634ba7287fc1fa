/** On-call: what is wrong in words, overrides, each part of the service, dead letters and webhook deliveries. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { agents } from "../lib/agents.js";
import { can, explain, newKey, Problem, request } from "../lib/api.js";
import { Element, go, html } from "../lib/page.js";
import { clock, clockWithSeconds, language, t, word } from "../lib/i18n.js";
import { Samples } from "../lib/samples.js";
import { databaseDown } from "../parts/database-down.js";
import { failedDeliveries } from "../parts/failed-deliveries.js";
import { figures, overrideStrip, parts } from "../parts/oncall-cards.js";
import { overrideName, overridesOf, verdict } from "../parts/oncall-verdict.js";
import { toast } from "../parts/toast.js";

const INTERVAL = 5_000; // ms between requests for the state
const LIST_SIZE = 20; // dead letters and deliveries that are listed
const SET_LISTED = 20; // audit entries of overrides that are read, to find who has set those in effect

/** @typedef {{path: string, items: any[], more: boolean, failure: string, asked: number}} GivenUpList `asked` counts the requests: the last one counts */

/** @param {string} path @returns {GivenUpList} */
const listAt = (path) => ({ path, items: [], more: false, failure: "", asked: 0 });

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
  /** The open request of the state. @type {Promise<void> | null} */
  reading = null;
  /** Who has set each override, by its name, and the overrides that this is about. @type {Record<string, string>} */
  setBy = {};
  known = "";

  connectedCallback() {
    super.connectedCallback();
    document.title = `${t("oncall.title")} – ${t("app.name")}`;
    if (can("dead-letters:read")) this.lists.letters = listAt("/support/dead-letters");
    if (can("webhooks:read")) this.lists.deliveries = listAt("/support/webhook-deliveries");
    this.every(INTERVAL, () => this.read());
    this.listen(document, "visibilitychange", () => this.read());
    this.read().then(() => this.editAsked());
    this.readLists();
  }

  /** Ask for the override that the address names, once, if its service is in use and not switched off. */
  editAsked() {
    const asked = new URLSearchParams(location.search).get("off");
    if (!asked || !this.isConnected) return;
    go(location.pathname, { replace: true });
    const { override, configured } = this.status?.sources.items.find((/** @type {any} */ each) => each.service === asked) ?? {};
    if (configured && !override && can("overrides:write")) this.edit(asked, null);
  }

  /** Read the state, unless the page is hidden; an open request is waited for instead. */
  async read() {
    if (document.hidden) return;
    this.reading ??= this.readState();
    await this.reading;
  }

  /** Read the state after a change: what a request finds that was sent before it may be older. */
  async readAgain() {
    await this.reading;
    await this.read();
  }

  async readState() {
    try {
      const { data } = await request("/support/oncall");
      const counts = countsOf(this.status);
      this.samples.add(figures(data));
      this.set({ status: data, receivedAt: Date.now(), problem: null });
      this.readWho();
      if (counts && counts !== countsOf(data)) this.readLists();
    } catch (failure) {
      this.set({ problem: failure });
    } finally {
      this.reading = null;
    }
  }

  /** The first problem of each part and source that has one, by name. @returns {Map<string, any>} */
  get failing() {
    return new Map(this.verdict.problems.map(({ part, source, problem }) => /** @type {const} */ ([source ?? part, problem])).reverse());
  }

  get verdict() {
    return verdict(this.status, (override) => this.whoSet(override));
  }

  /** Find out from the audit log who has set the overrides in effect, when they have changed. */
  async readWho() {
    const wanted = overridesOf(this.status).map(({ name, version }) => `${name} ${version}`).join();
    if (wanted === this.known || !can("audit:read")) return;
    this.known = wanted;
    try {
      const [{ data }, people] = await Promise.all([request(`/support/audit?action=override.set&limit=${SET_LISTED}`), agents()]);
      const names = Object.fromEntries(people.map(({ id, displayName }) => [id, displayName]));
      /** @type {Record<string, string>} */
      const setBy = {};
      for (const { actor, changes } of data.items) for (const name of Object.keys(changes ?? {})) setBy[name] ??= names[actor] ?? actor;
      this.set({ setBy });
    } catch {
      this.known = ""; // it is asked again with the next state
    }
  }

  /** @param {any} override */
  whoSet({ name }) {
    return this.setBy[name];
  }

  async readLists() {
    await Promise.all(
      Object.values(this.lists).map(async (list) => {
        const asked = ++list.asked;
        try {
          const { data } = await request(`${list.path}?limit=${LIST_SIZE}`);
          if (asked === list.asked) Object.assign(list, { items: data.items, more: data.nextCursor !== null, failure: "" });
        } catch (failure) {
          if (asked === list.asked) list.failure = explain(failure);
        }
        this.requestUpdate();
      }),
    );
  }

  /** Send a change, say what failed, and read the state again. @param {() => Promise<unknown>} send */
  async change(send) {
    if (this.busy) return false;
    this.set({ busy: true });
    let done = false;
    try {
      await send();
      done = true;
    } catch (failure) {
      toast({ text: explain(failure), isError: true });
    }
    this.set({ busy: false, confirming: "" });
    await Promise.all([this.readAgain(), this.readLists()]);
    return done;
  }

  /** @param {any} override */
  async clear({ name, version, value, reason, until }) {
    if (!(await this.change(() => request(`/support/overrides/${name}`, { method: "DELETE", ifMatch: `"${version}"`, key: newKey() })))) return;
    this.focusOn(`[data-part="${name === "ttl" ? "cache" : name}"] button`);
    const undo = async () => {
      const { data } = await request("/support/oncall");
      if (overridesOf(data).some((/** @type {any} */ each) => each.name === name)) throw new Problem({ status: 412, code: "override_changed", detail: "" });
      const left = Math.max(1, Math.ceil((Date.parse(until) - Date.now()) / 1000));
      const body = { value, reason, duration: `PT${left}S` };
      return this.undo(() => request(`/support/overrides/${name}`, { method: "PUT", body, key: newKey() }));
    };
    toast({ text: t("oncall.cleared", { name: overrideName(name) }), undo });
  }

  /** Say that an override was set, and offer to undo it. @param {any} former @param {any} override */
  async wasSet(former, { name, version }) {
    await this.readAgain();
    this.focusOn(`[data-override="${name}"] button:last-of-type`);
    const path = `/support/overrides/${name}`;
    const ifMatch = `"${version}"`;
    const undo = () => {
      if (!former) return this.undo(() => request(path, { method: "DELETE", ifMatch, key: newKey() }));
      const left = Math.max(1, Math.ceil((Date.parse(former.until) - Date.now()) / 1000));
      const body = { value: former.value, reason: former.reason, duration: `PT${left}S` };
      return this.undo(() => request(path, { method: "PUT", body, ifMatch, key: newKey() }));
    };
    toast({ text: t("oncall.set", { name: overrideName(name) }), undo });
  }

  /** Send what undoes a change, and show the state. @param {() => Promise<unknown>} send */
  async undo(send) {
    await send();
    await this.readAgain();
  }

  /** @param {string} selector */
  async focusOn(selector) {
    await this.updateComplete;
    /** @type {HTMLElement | null} */ (this.querySelector(selector))?.focus();
  }

  /** What the palette offers on this page. @returns {import("../parts/palette.js").Group[]} */
  commands() {
    if (!this.status || !can("overrides:write")) return [];
    const inEffect = overridesOf(this.status);
    const services = this.status.sources.items.filter((/** @type {any} */ each) => each.configured).map((/** @type {any} */ each) => each.service);
    const commands = [...services, "ttl"].map((name) => {
      const override = inEffect.find((each) => each.name === name);
      if (override) return { text: `${t("oncall.clear")}: ${overrideName(name)}`, run: () => this.clear(override) };
      const text = name === "ttl" ? t("oncall.keep_longer") : t("override.title", { name: overrideName(name) });
      return { text, run: () => this.edit(name, null) };
    });
    return [{ title: "oncall.overrides", commands }];
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
    this.set({ editing: { name, current } });
  }

  render() {
    const isRead = this.status || this.problem; // or the lists would move when the parts come
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
        ${this.summary()} ${this.isDatabaseDown ? databaseDown() : nothing}
        ${this.status
          ? html`${overrideStrip(this)} ${parts(this, this.failing)}`
          : this.problem
            ? nothing
            : html`<p role="status">${t("app.loading")}</p>`}
        ${isRead && this.lists.letters ? failedDeliveries(this, "letters") : nothing} ${isRead && this.lists.deliveries ? failedDeliveries(this, "deliveries") : nothing}
        ${this.status ? html`<p class="muted">${t("oncall.sampled", { time: clock(this.samples.since) })}</p>` : nothing}
      </main>
      ${this.editing
        ? html`<override-dialog
            .name=${this.editing.name}
            .current=${this.editing.current}
            @close=${() => this.set({ editing: null })}
            @set=${(/** @type {CustomEvent} */ { detail, target }) => this.wasSet(/** @type {any} */ (target).current, detail)}
          ></override-dialog>`
        : nothing}
    `;
  }

  get isDatabaseDown() {
    return this.problem?.code === "database_unavailable" || this.status?.database.status === "unavailable";
  }

  /** Say what is wrong, or that nothing is, with what to do about it. */
  summary() {
    if (!this.status && !this.problem) return html`<section class="verdict" aria-label=${t("verdict.title")}></section>`;
    const { level, problems, deliberate } = this.status ? this.verdict : { level: "bad", problems: [], deliberate: [] };
    const title = problems.length ? t("verdict.problems", { n: problems.length }) : t(level === "good" ? "oncall.all_good" : "verdict.degraded");
    return html`<section class="verdict" data-verdict=${this.problem ? "bad" : level} aria-label=${t("verdict.title")}>
      <div role="status">
        ${this.problem ? html`<p class="error">${explain(this.problem)}${this.status ? ` ${t("oncall.old")}` : ""}</p>` : nothing}
        ${this.status ? html`<p><strong>${title}</strong></p>` : nothing}
        <ul>
          ${problems.map(
            (finding) => html`<li data-alert=${finding.problem.alert ?? finding.part} data-state=${finding.problem.state}>
              <span title=${finding.problem.text}>${finding.text}</span>
              ${finding.problem.state === "pending" ? html`<span class="muted">${t("verdict.pending")}</span>` : nothing}
              ${finding.problem.symptoms.length ? html`<span class="muted">${t("verdict.symptoms", { n: finding.problem.symptoms.length })}</span>` : nothing}
              ${this.remedy(finding)}
            </li>`,
          )}
          ${deliberate.length && problems.length ? html`<li><strong>${t("verdict.degraded")}</strong></li>` : nothing}
          ${deliberate.map((text) => html`<li>${text}</li>`)}
        </ul>
      </div>
    </section>`;
  }

  /** What is likely to help with a problem: a button, the runbook and the panel. @param {import("../parts/oncall-verdict.js").Finding} finding */
  remedy({ part, source, problem }) {
    const { runbook, panel, action } = problem;
    const name = source ? word("source", source) : word("card", part);
    return html`<span class="links">
      ${source && can("overrides:write") ? html`<button class="primary" ?disabled=${this.busy} @click=${() => this.edit(source, null)}>${t("override.title", { name })}</button>` : nothing}
      ${part === "deadLetters" ? html`<button @click=${() => this.showLetters()}>${t("verdict.to_letters")}</button>` : nothing}
      ${action?.[language].url ? html`<a href=${action[language].url} target="_blank" rel="noreferrer">${action[language].text}</a>` : nothing}
      ${runbook ? html`<a href=${runbook} target="_blank" rel="noreferrer">${t("oncall.runbook")}<span class="visually-hidden">: ${name}</span></a>` : nothing}
      ${panel ? html`<a href=${panel} target="_blank" rel="noreferrer">Grafana<span class="visually-hidden">: ${name}</span></a>` : nothing}
    </span>`;
  }

  showLetters() {
    this.querySelector("[data-list=letters]")?.scrollIntoView();
    this.focusOn("[data-list=letters] li button");
  }
}

/** Return what tells that the lists have changed. @param {any} status */
function countsOf(status) {
  return status && `${status.deadLetters.count} ${status.webhooks.pending}`;
}

customElements.define("oncall-page", OnCallPage);
