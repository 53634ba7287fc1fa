/** The timeline as the page of a case shows it: from messages, files and what the sources gave, with filters, the newest entries first. */

import { noChange, nothing } from "../vendor/lit-element/lit-element.js";
import { dayKey, t, text } from "../lib/i18n.js";
import { html, wide } from "../lib/page.js";
import { timeline } from "./timeline.js";

const FILTERS = /** @type {const} */ (["all", "conversation", "sources", "files", "history"]);
const SHOWN_ENTRIES = 200; // entries shown before the older ones are asked for
const STEP = 25; // entries rendered at once, so that the browser can show and answer between two steps
const NEAR_END = 80; // px

/** @typedef {import("./timeline.js").Entry} Entry */

const HISTORY = "case-event";
const GROUPS = {
  conversation: ["message"],
  files: ["file"],
  sources: ["source", "context"],
  history: ["history"],
};

/** Part of the page of a case, which renders it. */
export class TimelineView {
  filter = "all";
  /** Whether more than SHOWN_ENTRIES are wanted. */
  all = false;
  /** The number of entries that are rendered at most. */
  rendered = 0;
  /** What was rendered last. @type {unknown[]} */
  last = [];

  /** @param {import("../pages/case.js").CasePage} page */
  constructor(page) {
    this.page = page;
  }

  get box() {
    return this.page.querySelector(".timeline");
  }

  /** The entries of the filter, without the older ones unless all are wanted. */
  get wanted() {
    const found = filtered(this.page.entries, this.filter);
    return this.all ? found : found.slice(-SHOWN_ENTRIES);
  }

  /** Whether the newest entry is in view. */
  get isAtEnd() {
    const { box } = this;
    return !box || box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END;
  }

  async scrollToEnd() {
    await this.page.updateComplete;
    if (this.box) this.box.scrollTop = this.box.scrollHeight;
  }

  /** Render the entries that are wanted and not rendered yet, in steps. What is in view stays in its place. */
  async fill() {
    while (this.rendered < this.wanted.length) {
      await new Promise((resume) => setTimeout(resume));
      const { box } = this;
      if (!box || this.page.view !== this) return;
      const fromEnd = box.scrollHeight - box.scrollTop;
      this.rendered += STEP;
      this.page.requestUpdate();
      await this.page.updateComplete;
      if (wide.matches) box.scrollTop = box.scrollHeight - fromEnd;
    }
    this.rendered = Infinity;
    this.page.requestUpdate();
  }

  showAll() {
    this.rendered = this.wanted.length;
    this.all = true;
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
  }

  /** @param {{collecting: boolean, preview: (file: any) => void, remove?: (file: any) => void, refresh: () => void}} shown */
  render({ collecting, ...actions }) {
    const isBusy = collecting || this.rendered !== Infinity;
    return html`<div class="timeline" tabindex="0" role="region" aria-label=${t("timeline.title")} aria-busy=${isBusy}>
      ${this.content(actions)}
    </div>`;
  }

  /** Return the entries, or `noChange` if nothing has changed since they were rendered. @param {{preview: (file: any) => void, remove?: (file: any) => void, refresh: () => void}} actions */
  content(actions) {
    const { entries, sources } = this.page;
    const current = [entries, sources, this.filter, this.all, this.rendered];
    if (current.every((each, index) => each === this.last[index])) return noChange;
    this.last = current;
    const { wanted } = this;
    const hidden = filtered(entries, this.filter).length - wanted.length;
    // A narrow page begins with the oldest entry.
    const visible = wide.matches ? wanted.slice(Math.max(0, wanted.length - this.rendered)) : wanted.slice(0, this.rendered);
    return html`
      ${hidden ? html`<p class="more"><button @click=${() => this.showAll()}>${t("timeline.earlier", { n: hidden })}</button></p>` : nothing}
      ${timeline(visible, { entries, sources, ...actions })}
      ${wanted.length ? nothing : html`<p class="empty">${t("timeline.empty")}</p>`}
    `;
  }
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

/**
 * Return the entries of a filter: `all`, or a group.
 * @param {Entry[]} entries
 * @param {string} filter
 */
function filtered(entries, filter) {
  const kinds = GROUPS[/** @type {keyof typeof GROUPS} */ (filter)];
  return kinds ? entries.filter((entry) => kinds.includes(entry.kind)) : entries;
}
