/** A case: its head, the state of its sources, the timeline, the customer and the composer. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { agent, can, explain, me, newKey, request, tagOf, versionOf } from "../lib/api.js";
import { Element, go, html, onKeys, queueLeft } from "../lib/page.js";
import { t, text } from "../lib/i18n.js";
import { live, Presence } from "../lib/live.js";
import { caseAside } from "../parts/case-aside.js";
import { caseHeader, sourceBadges } from "../parts/case-head.js";
import { Composer } from "../parts/composer.js";
import { entriesOf, TimelineView } from "../parts/timeline-view.js";

const TICK = 30_000; // ms between updates of ages
/** @type {Record<string, string>} */
const INVERSE_KINDS = { "duplicated-by": "duplicate-of", "child-of": "parent-of" };

export class CasePage extends Element {
  // Not a field of the class, which would hide the property that renders the page again.
  static properties = { caseId: {} };
  /** @type {any} */
  detail = null;
  version = 0;
  /** @type {any} the page of the customer */
  customer = null;
  /** The case as it was read last with its timeline, which may be that of its duplicates too. @type {any} */
  collected = null;
  /** @type {Record<string, any>} */
  sources = {};
  /** @type {import("../parts/timeline.js").Entry[]} */
  entries = [];
  busy = false;
  collecting = false;
  message = "";
  linkFailure = "";
  failure = "";
  /** @type {any} */
  preview = null;
  /** @type {{messages: any[], changes: string[]} | null} */
  question = null;
  /** A question that waits for its answer. @type {{asked: import("../parts/confirm-question.js").Question, answer: (isYes: boolean) => void} | null} */
  confirmation = null;
  composer = new Composer(this);
  view = new TimelineView(this);
  presence = new Presence();
  shownId = "";

  constructor() {
    super();
    /** @type {string} */
    this.caseId = "";
  }

  connectedCallback() {
    super.connectedCallback();
    this.listen(live, "change", ({ detail }) => this.applyChange(detail));
    this.listen(live, "presence", () => this.requestUpdate());
    this.listen(live, "resync", () => this.followChange());
    this.listen(
      document,
      "keydown",
      onKeys({
        r: () => this.composer.choose("public"),
        n: () => this.composer.choose("internal"),
        c: () => this.claim(),
        f: () => /** @type {HTMLElement | null} */ (this.querySelector("input[type=file]"))?.click(),
        u: () => go(queueLeft.address),
      }),
    );
    this.every(TICK, () => this.requestUpdate());
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.presence.stop();
  }

  willUpdate() {
    if (this.shownId === this.caseId) return;
    this.shownId = this.caseId;
    Object.assign(this, { detail: null, version: 0, customer: null, collected: null, sources: {}, entries: [], failure: "", message: "" });
    this.view = new TimelineView(this);
    this.composer = new Composer(this);
    this.composer.restore();
    this.presence.start(this.caseId, () => this.composer.typedAt);
    this.open();
  }

  get path() {
    return `/support/cases/${encodeURIComponent(this.caseId)}`;
  }

  async open() {
    try {
      await this.reload();
    } catch (failure) {
      return this.set({ failure: explain(failure) });
    }
    this.view.fill();
    this.loadCustomer();
    await this.collect();
  }

  /** Read the case again. `own`: after a change that was made here. */
  async reload({ own = false } = {}) {
    if (own) this.composer.noteOwnChange();
    const caseId = this.caseId;
    const { data, etag } = await request(this.path);
    if (caseId !== this.caseId || versionOf(etag) < this.version) return;
    const isFirst = !this.detail;
    this.apply(data, versionOf(etag));
    if (!isFirst) this.collect(); // the change is in the history, too
  }

  /** Read the case if a change is new here; changes of an older release have no version. @param {any} change */
  applyChange(change) {
    if (change.caseId === this.caseId && (!change.version || change.version > this.version)) this.followChange();
    else if (this.detail?.links.some((/** @type {any} */ each) => each.kind === "duplicated-by" && each.caseId === change.caseId)) this.followChange();
  }

  async followChange() {
    try {
      await this.reload();
    } catch (failure) {
      this.set({ message: explain(failure) });
    }
  }

  /**
   * @param {any} detail
   * @param {number} version
   */
  apply(detail, version) {
    const { isAtEnd } = this.view;
    const first = !this.detail;
    this.detail = detail;
    this.version = version;
    this.entries = entriesOf(detail, this.collected);
    if (first && !Object.keys(this.sources).length) this.sources = detail.timelineSources;
    this.composer.show(detail, version);
    document.title = `${text(detail.subject)} – ${t("app.name")}`;
    this.requestUpdate();
    if (isAtEnd && !first) this.view.scrollToEnd();
  }

  /** Collect the timeline, from the cache of the service or, with `refresh`, from the sources. */
  async collect({ refresh = false } = {}) {
    this.set({ collecting: true });
    try {
      const read = () => request(`${this.path}?includeTimeline=true`);
      const { data } = await (refresh ? request(`${this.path}/timeline/refresh`, { method: "POST" }) : read());
      const { isAtEnd } = this.view;
      this.set({ collected: data, sources: data.timelineSources, entries: entriesOf(this.detail, data) });
      if (isAtEnd) this.view.scrollToEnd();
    } catch (failure) {
      this.set({ message: explain(failure) });
    }
    this.set({ collecting: false });
  }

  async loadCustomer() {
    const { customerId } = this.detail;
    if (!customerId || !can("customers:read")) return;
    const answer = await request(`/support/customers/${encodeURIComponent(customerId)}?limit=20`).catch(() => null);
    if (answer) this.set({ customer: answer.data });
  }

  /** Claim the case. Ask first if a colleague has it. */
  async claim() {
    const holder = this.detail?.assignedAgentId;
    if (!can("cases:write") || !this.detail || holder === agent()) return;
    if (!holder) return this.change({ assignedAgentId: agent() });
    const said = t("case.claimed_first", { agent: holder });
    if (!(await this.confirm({ title: t("claim.title"), text: said, yes: t("claim.confirm") }))) return;
    if (this.detail.assignedAgentId === holder) this.change({ assignedAgentId: agent() });
    else this.claim(); // its holder has changed meanwhile
  }

  /** Ask, and return whether the answer is yes. @param {import("../parts/confirm-question.js").Question} asked @returns {Promise<boolean>} */
  async confirm(asked) {
    await import("../parts/confirm-question.js");
    const isYes = await new Promise((answer) => this.set({ confirmation: { asked, answer } }));
    this.set({ confirmation: null });
    await this.updateComplete;
    return isYes;
  }

  /** Delete a file of the case, after a question. @param {any} file */
  async deleteFile(file) {
    const caseId = this.caseId;
    const said = t("files.delete_text", { name: file.filename });
    if (!(await this.confirm({ title: t("files.delete_title"), text: said, yes: t("files.delete_confirm") })) || caseId !== this.caseId) return;
    this.set({ message: "" });
    try {
      await request(`/support/cases/${encodeURIComponent(file.ticketId)}/attachments/${file.id}`, { method: "DELETE", key: newKey() });
      await this.reload({ own: true });
    } catch (failure) {
      this.set({ message: explain(failure) });
    }
  }

  /** Change fields of the case, unless it has changed since it was shown. @param {object} changes */
  async change(changes) {
    if (this.busy) return;
    this.set({ busy: true, message: "" });
    try {
      await request(this.path, { method: "PATCH", body: changes, ifMatch: tagOf(this.version), key: newKey() });
      await this.reload({ own: true });
    } catch (failure) {
      await this.reload().catch(() => {});
      this.set({ message: explain(failure) });
    }
    this.set({ busy: false });
  }

  /** Add a link; the service takes some kinds from the other case only. @param {string} kind @param {string} caseId */
  addLink(kind, caseId) {
    const inverse = INVERSE_KINDS[kind];
    const [from, to] = inverse ? [caseId, this.caseId] : [this.caseId, caseId];
    const path = `/support/cases/${encodeURIComponent(from)}/links`;
    return this.changeLinks(() => request(path, { method: "POST", body: { kind: inverse ?? kind, caseId: to }, key: newKey() }));
  }

  /** @param {() => Promise<unknown>} send */
  async changeLinks(send) {
    this.set({ linkFailure: "" });
    try {
      await send();
      await this.reload({ own: true });
      await this.loadCustomer();
      /** @type {HTMLFormElement | null} */ (this.querySelector(".link-form"))?.reset();
    } catch (failure) {
      this.set({ linkFailure: explain(failure) });
    }
  }

  /**
   * Show what changed since the draft began, and ask whether to send it all the same. The refusal has the messages that
   * were added; a draft that was taken up after a reload has nothing else to compare with.
   */
  async askAboutChange(/** @type {any[] | undefined} */ newMessages) {
    const { describeChanges } = await import("../parts/change-question.js");
    const before = this.composer.draft.seenDetail;
    await this.reload();
    const known = new Set((before?.messages ?? []).map((/** @type {any} */ each) => each.id));
    const added = newMessages ?? (before ? this.detail.messages : []);
    const messages = added.filter((/** @type {any} */ each) => !known.has(each.id));
    const changes = before ? describeChanges(before, this.detail) : [];
    this.set({ question: { messages, changes } });
  }

  /** @param {CustomEvent<boolean>} event */
  async answerQuestion({ detail: send }) {
    this.set({ question: null });
    this.composer.draft.see(this.detail, this.version); // the writer has seen the question
    this.composer.keep();
    if (send) await this.composer.send({ over: true });
    this.composer.box?.focus();
  }

  render() {
    if (this.failure) return html`<main id="main" class="notice"><h1>${t("case.title")}</h1><p role="alert">${this.failure}</p><p><a href=${queueLeft.address}>${t("case.back")}</a></p></main>`;
    if (!this.detail) return html`<main id="main" class="notice"><h1 class="visually-hidden">${t("case.title")}</h1><p role="status">${t("app.loading")}</p></main>`;
    const refresh = () => this.collect({ refresh: true });
    return html`
      <main
        id="main"
        class="case"
        @dragover=${(/** @type {DragEvent} */ event) => event.preventDefault()}
        @drop=${(/** @type {DragEvent} */ event) => this.drop(event)}
      >
        ${caseHeader(this.detail, { change: (changes) => this.change(changes), claim: () => this.claim(), busy: this.busy, viewers: live.othersIn(this.caseId) })}
        <div class="case-sub">
          ${sourceBadges(this.sources, { busy: this.collecting, refresh })} ${this.view.filters()}
        </div>
        <p class="case-message" role="alert">${this.message || nothing}</p>
        ${caseAside({
          item: this.detail,
          customer: this.customer,
          change: (changes) => this.change(changes),
          addLink: (kind, caseId) => this.addLink(kind, caseId),
          removeLink: (id) => this.changeLinks(() => request(`${this.path}/links/${id}`, { method: "DELETE", key: newKey() })),
          failure: this.linkFailure,
        })}
        ${this.view.render({ collecting: this.collecting, preview: (file) => this.showPreview(file), remove: canDeleteFiles() ? (file) => this.deleteFile(file) : undefined, refresh })}
        ${this.composer.render(live.othersIn(this.caseId))}
      </main>
      ${this.question
        ? html`<change-question .messages=${this.question.messages} .changes=${this.question.changes} @answer=${this.answerQuestion}></change-question>`
        : nothing}
      ${this.confirmation
        ? html`<confirm-question .question=${this.confirmation.asked} @answer=${(/** @type {CustomEvent<boolean>} */ event) => this.confirmation?.answer(event.detail)}></confirm-question>`
        : nothing}
      ${this.preview ? html`<file-preview .file=${this.preview} @close=${() => this.set({ preview: null })}></file-preview>` : nothing}
    `;
  }

  /** @param {any} file */
  async showPreview(file) {
    await import("../parts/file-preview.js");
    this.set({ preview: file });
  }

  /** @param {DragEvent} event */
  drop(event) {
    const files = [...(event.dataTransfer?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    this.composer.attach(files);
  }
}

/** Whether files of a case may be deleted: customers delete only files that they have not sent. */
function canDeleteFiles() {
  return can("attachments:delete") && me.role !== "customer";
}

customElements.define("case-page", CasePage);
