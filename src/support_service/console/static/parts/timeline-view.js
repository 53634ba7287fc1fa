/** The timeline as the page of a case shows it: from messages, files and what the sources gave, with filters. It opens at what waits for an answer. */

import { noChange, nothing } from "../vendor/lit-element/lit-element.js";
import { dayKey, t, text, word } from "../lib/i18n.js";
import { html, wide } from "../lib/page.js";
import { nameIn } from "./person.js";
import { foldRuns, isPicture, timeline } from "./timeline.js";

const FILTERS = /** @type {const} */ (["conversation", "all", "sources", "files", "history"]);
const SHOWN_ROWS = 200; // rows shown before the older ones are asked for
const STEP = 25; // rows rendered at once, so that the browser can show and answer between two steps
const FIRST = 10; // rows rendered first: about as many as a window shows
const NEAR_END = 80; // px
const BELOW = 16; // px below the newest message, as in styles/case.css
const SPACE = 48; // px above the place to begin at: the line with the problems of sources

/** @typedef {import("./timeline.js").Entry} Entry */

const HISTORY = "case-event";
const GROUPS = {
  files: ["file"],
  sources: ["source", "context"],
  history: ["history"],
};

/** Part of the page of a case, which renders it. */
export class TimelineView {
  /** @type {string} */
  filter = "conversation";
  /** Whether more than SHOWN_ROWS are wanted. */
  all = false;
  /** The number of rows that are rendered at most. */
  rendered = 0;
  /** What was rendered last. @type {unknown[]} */
  last = [];
  /** Messages that came while the reader was looking at older ones. */
  news = 0;
  /** Whether the page still opens: it follows the place to begin at, until its reader moves. */
  isOpening = true;

  /** The box whose size is followed. @type {Element | null} */
  watched = null;

  /**
   * @param {import("../pages/case.js").CasePage} page
   * @param {string} marked the id of the message to begin at
   */
  constructor(page, marked) {
    this.page = page;
    this.marked = marked;
    this.all = Boolean(marked);
  }

  get box() {
    return this.page.querySelector(".timeline");
  }

  /** The rows of the filter. */
  get rows() {
    const { entries } = this.page;
    if (this.filter === "conversation") return foldRuns(entries);
    const kinds = GROUPS[/** @type {keyof typeof GROUPS} */ (this.filter)];
    return kinds ? entries.filter((entry) => kinds.includes(entry.kind)) : entries;
  }

  /** Whether the newest entry is in view. */
  get isAtEnd() {
    const { box } = this;
    return !box || box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END;
  }

  /** Show the newest entry. */
  async scrollToEnd() {
    this.isOpening = false;
    await this.page.updateComplete;
    if (this.box) this.box.scrollTop = this.box.scrollHeight;
  }

  /** Keep the newest entry in view when the composer grows: the browser keeps what is at the top. */
  keepEnd() {
    const { box, watched } = this;
    if (!box || box === watched) return;
    this.watched = box;
    let height = box.clientHeight;
    new ResizeObserver(() => {
      const wasAtEnd = box.scrollHeight - box.scrollTop - height < NEAR_END;
      if (wasAtEnd && !this.isOpening) box.scrollTop = box.scrollHeight;
      height = box.clientHeight;
    }).observe(box);
  }

  /** Show the place to begin at: the marked message, or the oldest one that waits for an answer, or else the newest message. What machines added after it is read later, below. */
  showPlace() {
    const { box } = this;
    if (!box) return;
    const newest = [...box.querySelectorAll(".message")].at(-1);
    const place = this.marked ? box.querySelector(`#${CSS.escape(`message-${this.marked}`)}`) : wide.matches ? box.querySelector(".unanswered-line") : null;
    if (place) box.scrollTop += place.getBoundingClientRect().top - box.getBoundingClientRect().top - SPACE;
    else if (newest) box.scrollTop += newest.getBoundingClientRect().bottom - box.getBoundingClientRect().bottom + BELOW;
    else box.scrollTop = box.scrollHeight;
  }

  /** Stay at the place to begin at until the browser has drawn it; from then on what is in view stays. */
  async opened() {
    for (let frame = 0; frame < 2; frame += 1) await new Promise((resume) => requestAnimationFrame(resume));
    if (this.isOpening && this.page.view === this) this.showPlace();
    this.isOpening = false;
    this.page.requestUpdate();
  }

  /** Follow what was added. @param {{messages?: number, wasAtEnd: boolean}} added */
  async follow({ messages = 0, wasAtEnd }) {
    if (!this.isOpening && !wasAtEnd && messages > 0) this.news += messages;
    await this.page.updateComplete;
    if (this.isOpening) this.showPlace();
    else if (wasAtEnd) this.scrollToEnd();
  }

  /** Render the rows that are wanted and not rendered yet, in steps. What is in view stays in its place. */
  async fill() {
    while (this.rendered < this.rows.length && (this.all || this.rendered < SHOWN_ROWS)) {
      await new Promise((resume) => setTimeout(resume));
      const { box } = this;
      if (!box || this.page.view !== this) return;
      const fromEnd = box.scrollHeight - box.scrollTop;
      this.rendered += STEP;
      this.page.requestUpdate();
      await this.page.updateComplete;
      if (this.isOpening) this.showPlace();
      else box.scrollTop = box.scrollHeight - fromEnd;
    }
    this.rendered = Infinity;
    this.page.requestUpdate();
  }

  showAll() {
    this.rendered = SHOWN_ROWS;
    this.all = true;
    this.isOpening = false;
    this.fill();
  }

  filters() {
    return html`<div class="segments" role="group" aria-label=${t("timeline.filters")}>
      ${FILTERS.map(
        (each) =>
          html`<button type="button" aria-pressed=${each === this.filter} @click=${() => this.choose(each)}>${t(`timeline.${each}`)}</button>`,
      )}
    </div>`;
  }

  /** @param {string} filter */
  choose(filter) {
    this.filter = filter;
    this.page.requestUpdate();
    this.scrollToEnd();
  }

  /**
   * @param {{collecting: boolean, problems: unknown, preview: (file: any) => void, remove?: (file: any) => void}} shown
   */
  render({ collecting, problems, ...actions }) {
    const isBusy = collecting || this.rendered !== Infinity;
    const moved = () => (this.isOpening = false);
    return html`<div
      class="timeline"
      tabindex="0"
      role="log"
      aria-label=${t("timeline.title")}
      aria-busy=${isBusy}
      ?data-opening=${this.isOpening}
      @wheel=${moved}
      @touchmove=${moved}
      @keydown=${moved}
      @pointerdown=${moved}
      @scroll=${() => this.news && this.isAtEnd && this.forgetNews()}
    >
      ${problems} ${this.content(actions)}
      ${this.news
        ? html`<p class="news-below"><button class="primary" @click=${() => this.showNews()}>${t("timeline.news", { n: this.news })} ↓</button></p>`
        : nothing}
    </div>`;
  }

  forgetNews() {
    this.news = 0;
    this.page.requestUpdate();
  }

  /** Show the newest entry to a reader who asks for it. */
  async showNews() {
    this.forgetNews();
    await this.scrollToEnd();
    this.focus();
  }

  focus() {
    /** @type {HTMLElement | null} */ (this.box)?.focus({ preventScroll: true });
  }

  /** Return the rows, or `noChange` if nothing has changed since they were rendered. @param {{preview: (file: any) => void, remove?: (file: any) => void}} actions */
  content(actions) {
    const { entries, sources, detail } = this.page;
    const current = [entries, sources, this.filter, this.all, this.rendered, text(detail.names)];
    if (current.every((each, index) => each === this.last[index])) return noChange;
    this.last = current;
    if (entries.some(({ kind, data }) => kind === "file" && isPicture(data))) import("./file-preview.js");
    const { rows } = this;
    const visible = rows.slice(-Math.min(this.rendered || FIRST, this.all ? Infinity : SHOWN_ROWS));
    const hidden = this.all ? 0 : Math.max(0, rows.length - SHOWN_ROWS);
    return html`
      ${hidden ? html`<p class="more"><button @click=${() => this.showAll()}>${t("timeline.earlier", { n: hidden })}</button></p>` : nothing}
      ${timeline(visible, { entries, sources, nameOf: (message) => nameOf(message, detail), unanswered: unanswered(entries, detail), marked: this.marked, ...actions })}
      ${rows.length ? nothing : html`<p class="empty">${t("timeline.empty")}</p>`}
    `;
  }
}

/** Return the name of a message's author. @param {any} message @param {any} detail the case */
function nameOf({ authorType, authorId }, { names, customerName }) {
  if (authorType === "customer") return customerName ?? word("author", "customer");
  return nameIn(names, authorId) ?? (authorType === "agent" && authorId ? text(authorId) : word("author", authorType));
}

/** Return the key of the customer's oldest message that no agent has answered. @param {Entry[]} entries @param {any} detail */
function unanswered(entries, { waitingSince }) {
  let found;
  if (!waitingSince) return undefined;
  for (const { kind, key, data } of entries) {
    if (kind !== "message" || data.visibility === "internal") continue;
    if (data.authorType === "agent") found = undefined;
    else if (data.authorType === "customer") found ??= key;
  }
  return found;
}

/**
 * Return all entries, oldest first. What one is, its `origin` says: the rest of an entry of the context may claim anything.
 * @param {any} detail a case as the API returns it, with the messages and files of its duplicates
 * @param {any} collected the same case, read with its timeline; null before that
 * @returns {Entry[]}
 */
export function entriesOf(detail, collected) {
  // With duplicates the service sets `ticketId` of each entry; else it is a member that the client gave.
  const isLinked = detail.links.some((/** @type {any} */ each) => each.kind === "duplicated-by");
  /** @param {any} data */
  const duplicateOf = (data) => (isLinked && data.ticketId !== detail.id ? data.ticketId : "");
  /** @type {Omit<Entry, "key">[]} */
  const entries = [
    ...(detail.description ? [{ at: timeOf(detail.createdAt), kind: /** @type {const} */ ("message"), data: firstMessage(detail) }] : []),
    ...detail.messages.map((/** @type {any} */ data) => ({ at: timeOf(data.sentAt ?? data.createdAt), kind: /** @type {const} */ ("message"), data })),
    ...detail.attachments.map((/** @type {any} */ data) => ({ at: timeOf(data.sentAt ?? data.createdAt), kind: /** @type {const} */ ("file"), data })),
  ];
  for (const data of collected?.timeline ?? []) {
    const at = timeOf(data.timestamp);
    if (data.origin === "case") {
      // Messages and files have entries with more members.
      if (data.type === HISTORY && data.action !== "attachment.added") entries.push({ at, kind: "history", data });
    } else if (Object.hasOwn(detail.timelineSources, data.origin)) {
      entries.push({ at, kind: "source", source: data.origin, data });
    } else {
      const { ticketId, ...given } = data;
      entries.push({ at, kind: "context", duplicate: duplicateOf(data), data: isLinked ? given : data });
    }
  }
  for (const entry of entries) entry.duplicate ??= duplicateOf(entry.data);
  return withKeys(entries.sort((one, other) => (one.at < other.at ? -1 : one.at > other.at ? 1 : 0)));
}

/** Return the description that a case was opened with as the customer's first message. @param {any} detail */
function firstMessage({ id, description, createdAt, customerId }) {
  return { id: "description", ticketId: id, authorType: "customer", authorId: customerId, visibility: "public", message: description, createdAt };
}

/** Return a time as it is; none if it can't be read. @param {unknown} at */
function timeOf(at) {
  return typeof at === "string" && dayKey(at) ? at : "";
}

/** Give each entry a key of its own, the same whenever the timeline is read. @param {Omit<Entry, "key">[]} entries @returns {Entry[]} */
function withKeys(entries) {
  /** @type {Map<string, number>} */
  const found = new Map();
  return entries.map((entry) => {
    const name = [entry.kind, entry.source, entry.duplicate, entry.data.type, entry.data.id, entry.at].map((each) => text(each)).join(" ");
    const count = found.get(name) ?? 0;
    found.set(name, count + 1);
    return { ...entry, key: `${name} ${count}` };
  });
}
