/** The timeline of a case by day. What customers write is text, never HTML. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { clock, dateAndTime, day, dayKey, duration, isEmpty, size, t, text, word } from "../lib/i18n.js";
import { html } from "../lib/page.js";

const SHOWN_FIRST = ["type", "timestamp", "origin", "status"]; // members that the first line of an entry shows
const OF_SOURCES = ["source", "ticketId"]; // members of a service's entry that say no more than its type and its page
const RECEIVED_LATE = 5 * 60_000; // ms

/**
 * @typedef {{key: string, at: string, kind: "message" | "file" | "source" | "context" | "history", source?: string, duplicate?: string, data: any}} Entry
 * @typedef {{day: string, entries: Entry[]}} Day
 * @typedef {{entries: Entry[], sources: Record<string, any>, preview: (file: any) => void, remove?: (file: any) => void, refresh: () => void}} Shown
 */

/**
 * Show entries by day, and what is missing.
 * @param {Entry[]} visible
 * @param {Shown} shown
 */
export function timeline(visible, shown) {
  return html`
    ${gaps(shown)}
    ${repeat(
      byDay(visible),
      ({ day }) => day,
      ({ entries }) => html`
        <section class="day">
          <h2><span>${entries[0].at ? day(entries[0].at) : t("timeline.no_time")}</span></h2>
          <ol>
            ${repeat(
              entries,
              ({ key }) => key,
              (entry) => itemOrNotice(entry, shown),
            )}
          </ol>
        </section>
      `,
    )}
  `;
}

/**
 * Return entries by local day.
 * @param {Entry[]} entries
 * @returns {Day[]}
 */
function byDay(entries) {
  /** @type {Map<string, Day>} */
  const days = new Map();
  for (const entry of entries) {
    const day = dayKey(entry.at);
    if (!days.has(day)) days.set(day, { day, entries: [] });
    days.get(day)?.entries.push(entry);
  }
  return [...days.values()];
}

/** Say what is missing: a day without entries of a source may have had some. @param {Shown} shown */
function gaps({ sources, refresh }) {
  return Object.entries(sources)
    .filter(([, source]) => source.status === "unavailable" || (source.status === "off" && source.reason))
    .map(
      ([name, source]) =>
        html`<div class="gap" role="note">
          <strong>${t("timeline.gap", { source: word("source", name) })}</strong>
          <span>${source.reason}</span>
          ${source.status === "unavailable" ? html`<button @click=${refresh}>${t("sources.refresh")}</button>` : nothing}
        </div>`,
    );
}

/**
 * Show an entry, or one line instead if it can't be shown: it costs no other entry.
 * @param {Entry} entry
 * @param {Shown} shown
 */
function itemOrNotice(entry, shown) {
  try {
    return item(entry, shown);
  } catch {
    return html`<li class="fact"><p class="meta"><span class="warning">${t("timeline.unreadable")}</span> ${time(entry.at)}</p></li>`;
  }
}

/**
 * @param {Entry} entry
 * @param {Shown} shown
 */
function item(entry, shown) {
  switch (entry.kind) {
    case "message":
      return message(entry, shown);
    case "file":
      return file(entry, shown);
    case "history":
      return change(entry);
    default:
      return fact(entry, shown);
  }
}

/**
 * @param {Entry} entry
 * @param {Shown} shown
 */
function message({ at, data, duplicate }, { entries, preview }) {
  const isNote = data.visibility === "internal";
  const attached = filesOf(data, entries);
  return html`<li class="message" data-author=${data.authorType} ?data-note=${isNote}>
    <p class="meta">
      <strong>${word("author", data.authorType)}</strong>
      ${isNote ? html`<span class="note-mark">${t("composer.note")}</span>` : nothing}
      ${data.sentiment ? html`<bdi class="muted">${data.sentiment}</bdi>` : nothing} ${caseLink(duplicate)} ${time(at)}
      ${isLate(data) ? html`<span class="muted">${t("timeline.received", { time: dateAndTime(data.createdAt) })}</span>` : nothing}
    </p>
    <div class="text" dir="auto">${data.message}</div>
    ${attached.length ? attached.map((each) => fileLine(each.data, preview)) : data.attachmentUri ? link(data.attachmentUri) : nothing}
  </li>`;
}

/** Say whether a message arrived at another time than it was sent, as `receivedAt` of the API does. @param {any} message */
function isLate({ sentAt, createdAt }) {
  return typeof sentAt === "string" && Math.abs(Date.parse(createdAt) - Date.parse(sentAt)) > RECEIVED_LATE;
}

/**
 * @param {Entry} entry
 * @param {Shown} shown
 */
function file({ at, data, duplicate }, { preview, remove }) {
  return html`<li class="fact" ?data-note=${data.visibility === "internal"}>
    <p class="meta">
      <strong>${t("timeline.file")}</strong>
      ${data.visibility === "internal" ? html`<span class="note-mark">${t("files.internal")}</span>` : nothing} ${caseLink(duplicate)} ${time(at)}
    </p>
    ${fileLine(data, preview, remove)}
  </li>`;
}

/**
 * @param {Entry} entry
 * @param {Shown} shown
 */
function fact({ at, kind, source, duplicate, data }, { sources }) {
  const state = sources[source ?? ""];
  const isStale = kind === "source" && state?.status === "stale";
  const name = ["eventType", `${text(data.type)}Id`, "id"].find((each) => !isEmpty(data[each])) ?? "id";
  const hidden = [...SHOWN_FIRST, name, ...(kind === "source" ? OF_SOURCES : [])];
  const members = Object.entries(data).filter(([each, value]) => !hidden.includes(each) && !isEmpty(value));
  return html`<li class="fact" ?data-stale=${isStale}>
    <p class="meta">
      <strong>${word("entry", data.type)}</strong>
      ${isEmpty(data[name]) ? nothing : html`<bdi>${text(data[name])}</bdi>`}
      ${isEmpty(data.status) ? nothing : html`<bdi class="pill">${text(data.status).replaceAll("_", " ")}</bdi>`}
      ${kind === "context" ? html`<span class="pill">${t("timeline.given")}</span>` : nothing}
      ${isStale ? html`<span class="stale-mark">${t("timeline.stale", { time: duration(state.ageSeconds ?? 0) })}</span>` : nothing}
      ${caseLink(duplicate)} ${time(at)}
    </p>
    ${members.length ? details(members) : nothing}
  </li>`;
}

/** Show a recorded change of the case: who changed what. @param {Entry} entry */
function change({ at, data, duplicate }) {
  const changes = Object.entries(data.changes).filter(([name]) => !/Ids?$/.test(name) || name === "assignedAgentId");
  const opened = data.action === "case.opened";
  return html`<li class="fact history">
    <p class="meta">
      <strong>${word("action", data.action)}</strong>
      ${data.actor ? html`<bdi>${data.actor}</bdi>` : nothing}
      ${opened ? nothing : changes.map(([name, [before, after]]) => html`<span><span class="muted">${word("field", name)}</span> ${isEmpty(before) ? nothing : html`<bdi>${changed(name, before)}</bdi> → `}<bdi>${changed(name, after)}</bdi></span>`)}
      ${caseLink(duplicate)} ${time(at)}
    </p>
  </li>`;
}

/**
 * @param {string} name
 * @param {any} value
 */
export function changed(name, value) {
  return isEmpty(value) ? "–" : word(name === "kind" ? "link" : name, value);
}

/** Show members. Members of a payload stand among the entry's own. @param {[string, any][]} members */
function details(members) {
  const shown = members.flatMap(([name, value]) => (name === "payload" && typeof value === "object" ? Object.entries(value) : [[name, value]]));
  return html`<p class="members">
    ${shown.map(([name, value]) => html`<span><span class="muted">${word("member", name)}</span> <bdi>${text(value)}</bdi></span>`)}
  </p>`;
}

/** Return the files that a message names. @param {any} message @param {Entry[]} entries @returns {Entry[]} */
function filesOf({ attachmentIds, attachmentUri }, entries) {
  const files = entries.filter(({ kind }) => kind === "file");
  if (attachmentIds?.length) return files.filter(({ data }) => attachmentIds.includes(data.id));
  return attachmentUri ? files.filter(({ data }) => samePath(data.uri, attachmentUri)) : [];
}

/**
 * @param {any} data
 * @param {(file: any) => void} preview
 * @param {(file: any) => void} [remove]
 */
export function fileLine(data, preview, remove) {
  const isImage = /^image\/(png|jpeg|gif|webp|avif)$/.test(data.contentType);
  return html`<p class="file">
    <a href=${pathOf(data.uri)} download><bdi>${data.filename}</bdi></a>
    <span class="muted">${size(data.sizeBytes)}</span>
    ${isImage ? html`<button class="plain" @click=${() => preview(data)}>${t("files.preview")}</button>` : nothing}
    ${remove ? html`<button class="plain" aria-label=${t("files.delete", { name: data.filename })} @click=${() => remove(data)}>${t("files.delete_short")}</button>` : nothing}
  </p>`;
}

/** Show an address that a message names: as a link only if it leads to this service or to a web page. @param {string} uri */
function link(uri) {
  if (!/^(https?:\/\/|\/support\/)/.test(uri)) return html`<p class="file"><bdi>${uri}</bdi></p>`;
  return html`<p class="file"><a href=${uri} target="_blank" rel="noopener noreferrer"><bdi>${uri}</bdi></a></p>`;
}

/** Name the duplicate that an entry is of. @param {string | undefined} id */
function caseLink(id) {
  return id ? html`<a class="muted" href=${`/console/cases/${encodeURIComponent(id)}`}>${t("timeline.duplicate", { id: id.slice(0, 8) })}</a>` : nothing;
}

/** @param {string} at */
function time(at) {
  return at ? html`<time datetime=${at} title=${dateAndTime(at)}>${clock(at)}</time>` : nothing;
}

/** Return the path of an attachment's address, which has an origin if SUPPORT_PUBLIC_URL is set. @param {string} uri */
export function pathOf(uri) {
  return uri.replace(/^https?:\/\/[^/]+/, "");
}

/**
 * @param {string} one
 * @param {string} other
 */
function samePath(one, other) {
  return pathOf(one) === pathOf(other);
}
