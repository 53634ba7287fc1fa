/** The entries of a case's timeline, from its messages, its files and what the sources gave. */

import { dayKey } from "./i18n.js";

/**
 * @typedef {{at: string, kind: "message" | "file" | "source" | "context" | "history", source?: string, data: any}} Entry
 * @typedef {{day: string, entries: Entry[]}} Day
 */

/** End of the member `source` of entries that an upstream service gave, such as `order-service`. */
const SOURCE_SUFFIX = "-service";
const HISTORY = "case-event";
const GROUPS = {
  conversation: ["message"],
  files: ["file"],
  sources: ["source", "context"],
  history: ["history"],
};

/**
 * Return all entries, oldest first.
 * @param {any} detail a case as the API returns it
 * @param {any[]} timeline its collected timeline
 * @returns {Entry[]}
 */
export function entriesOf(detail, timeline) {
  /** @type {Entry[]} */
  const entries = [
    ...detail.messages.map((/** @type {any} */ data) => ({ at: data.sentAt ?? data.createdAt, kind: "message", data })),
    ...detail.attachments.map((/** @type {any} */ data) => ({ at: data.sentAt ?? data.createdAt, kind: "file", data })),
  ];
  for (const data of timeline) {
    if (data.type === "conversation" || data.type === "attachment") continue; // these have entries with more members
    if (data.type === HISTORY) {
      if (data.action !== "attachment.added") entries.push({ at: data.timestamp, kind: "history", data });
      continue;
    }
    const source = String(data.source ?? "");
    const kind = source.endsWith(SOURCE_SUFFIX) ? "source" : "context";
    entries.push({ at: data.timestamp, kind, source: source.replace(SOURCE_SUFFIX, ""), data });
  }
  return entries.sort((one, other) => (one.at < other.at ? -1 : one.at > other.at ? 1 : 0));
}

/**
 * Return the entries of a filter: `all`, or a group.
 * @param {Entry[]} entries
 * @param {string} filter
 */
export function filtered(entries, filter) {
  const kinds = GROUPS[/** @type {keyof typeof GROUPS} */ (filter)];
  return kinds ? entries.filter((entry) => kinds.includes(entry.kind)) : entries;
}

/**
 * Return entries by local day.
 * @param {Entry[]} entries
 * @returns {Day[]}
 */
export function byDay(entries) {
  /** @type {Day[]} */
  const days = [];
  for (const entry of entries) {
    const day = dayKey(entry.at);
    if (days[days.length - 1]?.day !== day) days.push({ day, entries: [] });
    days[days.length - 1].entries.push(entry);
  }
  return days;
}
