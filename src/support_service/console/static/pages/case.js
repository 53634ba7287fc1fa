/** A case: its head, the conversation, the customer and the composer; and where there is room, the list that it is in. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { can, explain, me, request, versionOf } from "../lib/api.js";
import { agents } from "../lib/agents.js";
import { markMentionsRead } from "../lib/attention.js";
import { noteSeen } from "../lib/case-list.js";
import { Element, go, holdingKeys, html, onKeys, queueLeft, wide } from "../lib/page.js";
import { t, text } from "../lib/i18n.js";
import { live, Presence } from "../lib/live.js";
import { caseAside } from "../parts/case-aside.js";
import { caseHeader, sourceProblems } from "../parts/case-head.js";
import { Composer } from "../parts/composer.js";
import { nameIn } from "../parts/person.js";
import { isPicture } from "../parts/timeline.js";
import { entriesOf, TimelineView } from "../parts/timeline-view.js";

const TICK = 30_000; // ms between updates of ages
const FOLLOW_PAUSE = 2_000; // ms at least between two reads of a case that keeps changing
const roomy = matchMedia("(min-width: 1600px)"); // whether the list stands beside the case, as in styles/case.css

/** @typedef {typeof import("../parts/case-actions.js")} Actions */

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
  /** Whom the case can be assigned to. @type {import("../lib/agents.js").AgentEntry[]} */
  people = [];
  collecting = false;
  message = "";
  linkFailure = "";
  failure = "";
  /** Whether a button of the mouse is down. */
  isPressing = false;
  /** @type {any} */
  preview = null;
  /** @type {{messages: any[], changes: string[], asked: import("../parts/composer.js").Attempt} | null} */
  question = null;
  /** A question that waits for its answer. @type {{asked: import("../parts/confirm-question.js").Question, answer: (isYes: boolean) => void} | null} */
  confirmation = null;
  /** What is asked before a case is snoozed, merged or split. @type {"snooze" | "merge" | "split" | null} */
  dialog = null;
  composer = new Composer(this);
  view = new TimelineView(this, "");
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
    this.listen(live, "notification", ({ detail }) => detail.caseId === this.caseId && this.detail && !document.hidden && markMentionsRead(this.caseId));
    this.listen(live, "resync", () => this.followChange());
    this.listen(window, "storage", (event) => this.composer.takeUp(event));
    this.listen(document, "visibilitychange", () => this.noteSeen());
    for (const query of [wide, roomy]) this.listen(query, "change", () => this.requestUpdate());
    this.listen(document, "pointerdown", () => (this.isPressing = true));
    for (const type of ["pointerup", "pointercancel"]) this.listen(document, type, () => (this.isPressing = false));
    this.listen(
      document,
      "keydown",
      onKeys({
        r: () => this.composer.choose("public"),
        n: () => this.composer.choose("internal"),
        c: () => this.run("claim"),
        f: () => /** @type {HTMLElement | null} */ (this.querySelector("input[type=file]"))?.click(),
        u: () => go(queueLeft.address),
        j: () => this.goBy(1),
        k: () => this.goBy(-1),
        s: () => this.menu("status")?.open(),
        p: () => this.menu("priority")?.open(),
        a: () => this.menu("assignee")?.open() && this.loadPeople(), // who is there is listed as soon as it is known
        h: () => this.run("act", "snooze"),
      }),
    );
    this.every(TICK, () => this.requestUpdate());
  }

  /** @param {string} name */
  menu(name) {
    return /** @type {import("../parts/choice-menu.js").ChoiceMenu | null} */ (this.querySelector(`choice-menu.of-${name}`));
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.presence.stop();
    this.confirmation?.answer(false);
  }

  updated() {
    this.view.keepEnd();
  }

  willUpdate() {
    if (this.shownId === this.caseId) return;
    this.shownId = this.caseId;
    this.confirmation?.answer(false); // questions are about the case that is left
    Object.assign(this, { question: null, confirmation: null, dialog: null, preview: null, linkFailure: "", collecting: false });
    Object.assign(this, { detail: null, version: 0, customer: undefined, collected: null, sources: {}, entries: [], failure: "", message: "" });
    this.view = new TimelineView(this, new URLSearchParams(location.search).get("message") ?? "");
    this.composer = new Composer(this);
    this.composer.restore();
    this.presence.start(this.caseId);
    queueLeft.active = this.caseId;
    this.open();
  }

  get path() {
    return `/support/cases/${encodeURIComponent(this.caseId)}`;
  }

  /** Return whether the case is still shown that was when it had this view. @param {TimelineView} view */
  stillShows(view) {
    return view === this.view && this.isConnected;
  }

  /** The first reading of the case, which may fail. @type {Promise<void>} */
  opening = Promise.resolve();

  async open() {
    const { view } = this;
    this.opening = this.reload();
    try {
      await this.opening;
    } catch (failure) {
      return this.stillShows(view) && this.set({ failure: explain(failure) });
    }
    await this.updateComplete;
    if (!this.stillShows(view)) return;
    if (queueLeft.ids.length && document.activeElement === document.body) view.focus();
    markMentionsRead(this.caseId);
    this.loadCustomer();
    await Promise.all([view.fill(), this.collect()]);
    await view.opened();
  }

  /** Read whom the case can be assigned to, when the menu is about to be opened. */
  async loadPeople() {
    const people = await agents().catch(() => this.people);
    this.set({ people });
    await this.updateComplete;
  }

  /** Read the case again. */
  async reload() {
    const { view } = this;
    const { data, etag } = await request(this.path);
    if (!this.stillShows(view) || versionOf(etag) < this.version) return;
    const isFirst = !this.detail;
    this.apply(data, versionOf(etag));
    if (!isFirst) this.collect(); // the change is in the history, too
  }

  /** Read the case if a change is new here; changes of an older release have no version. @param {any} change */
  applyChange(change) {
    if (change.caseId === this.caseId && (!change.version || change.version > this.version)) this.followChange();
    else if (this.detail?.links.some((/** @type {any} */ each) => each.kind === "duplicated-by" && each.caseId === change.caseId)) this.followChange();
  }

  /** Whether changes came while the case was being read. */
  isBehind = false;
  /** @type {Promise<unknown> | null} */
  following = null;
  /** When changes may be followed again. */
  mayFollowAt = 0;

  /** Read the case again: once for all changes that come meanwhile, and at most every two seconds. */
  async followChange() {
    this.isBehind = true;
    if (this.following) return this.following;
    this.following = this.follow();
    await this.following;
    this.following = null;
  }

  async follow() {
    while (this.isBehind && this.isConnected) {
      await new Promise((resume) => setTimeout(resume, this.mayFollowAt - Date.now()));
      if (!this.isConnected) return;
      Object.assign(this, { isBehind: false, mayFollowAt: Date.now() + FOLLOW_PAUSE });
      const { caseId } = this;
      try {
        await this.reload();
      } catch (failure) {
        if (caseId === this.caseId) this.set({ message: explain(failure) });
      }
    }
  }

  /** Note that the case was seen as it is shown, unless its tab is hidden. */
  noteSeen() {
    if (this.detail && !document.hidden) noteSeen(this.detail.id, this.detail.updatedAt);
  }

  /**
   * @param {any} detail
   * @param {number} version
   */
  apply(detail, version) {
    const wasAtEnd = this.view.isAtEnd;
    const first = !this.detail;
    const messages = first ? 0 : detail.messages.length - this.detail.messages.length;
    this.detail = detail;
    this.version = version;
    this.entries = entriesOf(detail, this.collected);
    if (first && !Object.keys(this.sources).length) this.sources = detail.timelineSources;
    this.composer.show(detail, version);
    this.noteSeen();
    document.title = `${text(detail.subject)} – ${t("app.name")}`;
    this.requestUpdate();
    this.view.follow({ messages, wasAtEnd });
  }

  /** The newest request for the timeline, and the newest one with an answer: an older answer changes nothing. */
  asked = 0;
  answered = 0;

  /** Collect the timeline, from the cache of the service or, with `refresh`, from the sources. */
  async collect({ refresh = false } = {}) {
    const { view } = this;
    const asked = ++this.asked;
    this.set({ collecting: true });
    try {
      const read = () => request(`${this.path}?includeTimeline=true`);
      const { data } = await (refresh ? request(`${this.path}/timeline/refresh`, { method: "POST" }) : read());
      if (!this.stillShows(view) || asked < this.answered) return;
      this.answered = asked;
      const wasAtEnd = view.isAtEnd;
      this.set({ collected: data, sources: data.timelineSources, entries: entriesOf(this.detail, data) });
      await view.follow({ wasAtEnd });
    } catch (failure) {
      if (this.stillShows(view)) this.set({ message: explain(failure) });
    }
    if (asked === this.asked) this.set({ collecting: false });
  }

  async loadCustomer() {
    const customerId = this.detail?.customerId;
    if (!customerId || !can("customers:read")) return this.set({ customer: null });
    const answer = await request(`/support/customers/${encodeURIComponent(customerId)}?limit=20`).catch(() => null);
    if (this.detail?.customerId === customerId) this.set({ customer: answer?.data ?? this.customer ?? null });
  }

  /** Ask, and return whether the answer is yes. @param {import("../parts/confirm-question.js").Question} asked @returns {Promise<boolean>} */
  async confirm(asked) {
    const { view } = this;
    this.confirmation?.answer(false);
    /** @type {Promise<boolean> | undefined} */
    let answered;
    await holdingKeys(async () => {
      await import("../parts/confirm-question.js");
      if (!this.stillShows(view)) return false;
      answered = new Promise((answer) => this.set({ confirmation: { asked, answer } }));
      return this.updateComplete;
    });
    if (!answered) return false;
    const isYes = await answered;
    this.set({ confirmation: null });
    await this.updateComplete;
    return isYes;
  }

  /** The changes that were asked for, one after the other. @type {Promise<unknown>} */
  changing = Promise.resolve();

  /**
   * Do one of the actions of parts/case-actions.js.
   * @template {keyof Actions} Name
   * @param {Name} name
   * @param {Parameters<Actions[Name]> extends [any, ...infer Given] ? Given : never} given
   */
  async run(name, ...given) {
    const { view } = this;
    try {
      /** @type {Promise<unknown> | undefined} */
      let done;
      await holdingKeys(async () => {
        const actions = /** @type {any} */ (await import("../parts/case-actions.js"));
        if (this.stillShows(view)) done = actions[name](this, ...given); // which holds the keys itself if it opens a dialog
      });
      await done;
    } catch (failure) {
      if (this.stillShows(view)) this.set({ message: explain(failure) });
    }
  }

  /** Open another case of the list, and return whether there is one. @param {number} step */
  goBy(step) {
    const { ids } = queueLeft;
    const to = ids.includes(this.caseId) ? ids[ids.indexOf(this.caseId) + step] : undefined;
    if (to) go(`/console/cases/${encodeURIComponent(to)}`);
    return Boolean(to);
  }

  /** Show the message that was sent, or the next case; after the last one, the list. A writer who has gone on here stays. @param {import("../parts/composer.js").End} end */
  async afterSending({ next }) {
    if (next && this.isResting) return this.goBy(1) || go(queueLeft.address);
    const { view } = this;
    await this.reload();
    if (this.stillShows(view)) await view.scrollToEnd();
  }

  /** Whether keys are for the conversation, and nothing is being written, chosen or asked. */
  get isResting() {
    const { activeElement } = document;
    return !document.querySelector("dialog[open]") && (activeElement === document.body || activeElement === this.view.box);
  }

  /** Whether the list that the case was opened from stands beside it. */
  get hasNeighbours() {
    return roomy.matches && queueLeft.list !== null;
  }

  /** Whether files of the case may be deleted: customers delete only files that they have not sent. */
  get mayDeleteFiles() {
    return can("attachments:delete") && me.role !== "customer";
  }

  render() {
    if (this.failure) return html`<main id="main" class="notice"><h1>${t("case.title")}</h1><p role="alert">${this.failure}</p><p><a href=${queueLeft.address}>${t("case.back")}</a></p></main>`;
    if (!this.detail) return html`<main id="main" class="notice"><h1 class="visually-hidden">${t("case.title")}</h1><p role="status">${t("app.loading")}</p></main>`;
    const refresh = () => this.collect({ refresh: true });
    const others = live.othersIn(this.caseId);
    const problems = sourceProblems(this.sources, { busy: this.collecting, refresh });
    const viewers = others.map(({ name }) => nameIn(this.detail.names, name) ?? name);
    if (this.hasNeighbours) import("../parts/case-neighbours.js");
    return html`
      <main
        id="main"
        class="case"
        ?data-roomy=${this.hasNeighbours}
        @dragover=${(/** @type {DragEvent} */ event) => event.preventDefault()}
        @drop=${(/** @type {DragEvent} */ event) => this.drop(event)}
      >
        ${caseHeader(this)}
        ${this.hasNeighbours ? html`<case-neighbours .caseId=${this.caseId}></case-neighbours>` : nothing}
        <div class="case-sub">
          ${this.view.filters()} ${viewers.length ? html`<span class="viewers">${t("queue.viewed_by", { names: viewers.join(", ") })}</span>` : nothing}
        </div>
        <p class="case-message" role="alert">${this.message || nothing}</p>
        ${wide.matches
          ? html`<aside class="case-aside" aria-label=${t("aside.title")}>${caseAside(this)}</aside>`
          : html`<dialog class="case-aside sheet" aria-label=${t("aside.title")}>
              <form method="dialog"><button class="plain">${t("help.close")}</button></form>
              ${caseAside(this)}
            </dialog>`}
        ${this.view.render({ collecting: this.collecting, problems, preview: (file) => this.showPreview(file), remove: this.mayDeleteFiles ? (file) => this.run("deleteFile", file) : undefined })}
        ${this.composer.render(others)}
      </main>
      ${this.dialog
        ? html`<case-dialog .kind=${this.dialog} .item=${this.detail} .others=${this.customer?.cases ?? []} @answer=${(/** @type {CustomEvent} */ { detail }) => this.run("decide", detail)}></case-dialog>`
        : nothing}
      ${this.question
        ? html`<change-question .messages=${this.question.messages} .changes=${this.question.changes} @answer=${(/** @type {CustomEvent<boolean>} */ { detail }) => this.run("answerQuestion", detail)}></change-question>`
        : nothing}
      ${this.confirmation
        ? html`<confirm-question .question=${this.confirmation.asked} @answer=${(/** @type {CustomEvent<boolean>} */ event) => this.confirmation?.answer(event.detail)}></confirm-question>`
        : nothing}
      ${this.preview ? html`<file-preview .file=${this.preview} .files=${this.detail.attachments.filter(isPicture)} @close=${() => this.set({ preview: null })}></file-preview>` : nothing}
    `;
  }

  /** Open the sheet of a narrow page. */
  showDetails() {
    /** @type {HTMLDialogElement | null} */ (this.querySelector("dialog.sheet"))?.showModal();
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

customElements.define("case-page", CasePage);
