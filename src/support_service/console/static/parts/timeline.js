/** The timeline of a case by day. What customers write is text, never HTML. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { clock, dateAndTime, day, dayAndMonth, dayKey, duration, isEmpty, size, stateOf, t, text, word } from "../lib/i18n.js";
import { html } from "../lib/page.js";

const SHOWN_FIRST = ["type", "timestamp", "origin", "status"]; // members that the first line of an entry shows
const OF_SOURCES = ["source", "ticketId"]; // members of a service's entry that say no more than its type and its page
const RECEIVED_LATE = 5 * 60_000; // ms
// Bounded, so that no text takes longer than its length: web addresses, mail addresses, and ids such as ORD-1001.
const LINK = /(https?:\/\/[^\s<>"']{1,2000})|(?<![\w.+-])([\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8})|(?<![\w-])([A-Z]{2,6}-\d{3,20})(?![\w-])/g;
const AFTER_ADDRESS = /[.,;:!?)\]}'"]{1,8}$/; // ends the sentence, not the address
const QUOTED = /^\s{0,3}>/;
const SIGNATURE = /^--\s?$/;
const MOST_PARTS = 100; // of a message, before the rest is one that is folded
const MOST_LINKS = 100; // of a message
const LONGEST_INTRODUCTION = 200; // characters of a line such as "On Monday Lan wrote:"
const GROUP = 5 * 60_000; // ms between messages of one author that have one head
const IMAGE = /^image\/(png|jpeg|gif|webp|avif)$/;

/**
 * @typedef {{key: string, at: string, kind: "message" | "file" | "source" | "context" | "history", source?: string, duplicate?: string, data: any}} Entry
 * @typedef {{key: string, at: string, kind: "run", entries: Entry[]}} Run entries of machines that follow one another
 * @typedef {Entry | Run} Row
 * @typedef {{entries: Entry[], sources: Record<string, any>, nameOf: (message: any) => string, preview: (file: any) => void, remove?: (file: any) => void,
 *   unanswered?: string, marked?: string}} Shown `unanswered` is the key of the first message that waits for an answer, `marked` the id of a message
 */

/**
 * Show entries by day.
 * @param {Row[]} visible
 * @param {Shown} shown
 */
export function timeline(visible, shown) {
  return repeat(
    byDay(visible),
    ({ day }) => day,
    ({ rows }) => html`
      <section class="day">
        <h2><span>${rows[0].at ? day(rows[0].at) : t("timeline.no_time")}</span></h2>
        <ol>
          ${repeat(
            rows.map((row, index) => ({ row, follows: isSameGroup(rows[index - 1], row) && row.key !== shown.unanswered })),
            ({ row }) => row.key,
            ({ row, follows }) => html`${row.key === shown.unanswered ? html`<li class="unanswered-line"><span>${t("timeline.unanswered")}</span></li>` : nothing}${rowOrNotice(row, shown, follows)}`,
          )}
        </ol>
      </section>
    `,
  );
}

/**
 * Fold entries of machines that follow one another into runs: what people said and sent stays.
 * @param {Entry[]} entries
 * @returns {Row[]}
 */
export function foldRuns(entries) {
  const named = new Set(entries.flatMap(({ kind, data }) => (kind === "message" ? filesOf(data, entries).map(({ key }) => key) : [])));
  /** @type {Row[]} */
  const rows = [];
  for (const entry of entries) {
    if (named.has(entry.key)) continue; // its message shows it
    const last = rows[rows.length - 1];
    if (entry.kind === "message" || entry.kind === "file") rows.push(entry);
    else if (last?.kind === "run") {
      last.entries.push(entry);
      last.at = entry.at;
    }
    else rows.push({ kind: "run", key: `run ${entry.key}`, at: entry.at, entries: [entry] });
  }
  return rows.map((row) => (row.kind === "run" && row.entries.length === 1 ? row.entries[0] : row));
}

/** Whether a message has the author of the one before it, a few minutes later. @param {Row | undefined} before @param {Row} row */
function isSameGroup(before, row) {
  if (before?.kind !== "message" || row.kind !== "message") return false;
  const isSame = ["authorType", "authorId", "visibility"].every((name) => text(before.data[name]) === text(row.data[name])) && before.duplicate === row.duplicate;
  return isSame && Date.parse(row.at) - Date.parse(before.at) < GROUP && !isLate(row.data);
}

/** Return rows by local day. @param {Row[]} rows */
function byDay(rows) {
  /** @type {Map<string, {day: string, rows: Row[]}>} */
  const days = new Map();
  for (const row of rows) {
    const day = dayKey(row.at);
    if (!days.has(day)) days.set(day, { day, rows: [] });
    days.get(day)?.rows.push(row);
  }
  return [...days.values()];
}

/**
 * Show a row, or one line instead if it can't be shown: it costs no other row.
 * @param {Row} row
 * @param {Shown} shown
 * @param {boolean} [follows] whether it continues the group of the message before it
 * @returns {unknown}
 */
function rowOrNotice(row, shown, follows = false) {
  try {
    return row.kind === "run" ? run(row, shown) : item(row, shown, follows);
  } catch {
    return html`<li class="fact"><p class="meta"><span class="warning">${t("timeline.unreadable")}</span> ${time(row.at)}</p></li>`;
  }
}

/**
 * Show a run as one line, which opens.
 * @param {Run} run
 * @param {Shown} shown
 */
function run({ entries }, shown) {
  const [events, given, changes] = ["source", "context", "history"].map((kind) => entries.filter((entry) => entry.kind === kind).length);
  const last = entries.findLast(({ kind }) => kind === "source");
  const state = stateOf(last?.data.status ?? last?.data.eventType);
  const parts = [
    events ? t("timeline.run", { n: events }) + (state && last?.at ? `, ${state} ${dayAndMonth(dayKey(last.at))}` : "") : "",
    given ? t("timeline.run_given", { n: given }) : "",
    changes ? t("timeline.run_changes", { n: changes }) : "",
  ];
  return html`<li class="run">
    <details>
      <summary><bdi>${parts.filter(Boolean).join(" · ")}</bdi></summary>
      <ol>
        ${entries.map((entry) => rowOrNotice(entry, shown))}
      </ol>
    </details>
  </li>`;
}

/**
 * @param {Entry} entry
 * @param {Shown} shown
 * @param {boolean} follows
 */
function item(entry, shown, follows) {
  switch (entry.kind) {
    case "message":
      return message(entry, shown, follows);
    case "file":
      return file(entry, shown);
    case "history":
      return change(entry, shown);
    default:
      return fact(entry, shown);
  }
}

/**
 * @param {Entry} entry
 * @param {Shown} shown
 * @param {boolean} follows
 */
function message({ at, data, duplicate }, { entries, nameOf, preview, marked }, follows) {
  const isNote = data.visibility === "internal";
  const attached = filesOf(data, entries).map((each) => each.data);
  const pictures = attached.filter(isPicture);
  return html`<li id="message-${data.id}" class="message" data-author=${data.authorType} ?data-note=${isNote} ?data-marked=${data.id === marked}>
    <p class="meta ${follows ? "visually-hidden" : ""}">
      <strong><bdi>${nameOf(data)}</bdi></strong>
      ${isNote ? html`<span class="note-mark">${t("composer.note")}</span>` : nothing}
      ${data.sentiment ? html`<bdi class="muted">${data.sentiment}</bdi>` : nothing} ${caseLink(duplicate)} ${time(at)}
      ${isLate(data) ? html`<span class="muted">${t("timeline.received", { time: dateAndTime(data.createdAt) })}</span>` : nothing}
    </p>
    <div class="text" dir="auto">${messageText(data.message)}</div>
    ${pictures.length ? html`<p class="pictures">${repeat(pictures, ({ id }) => id, (each) => html`<file-thumbnail .file=${each} @open=${() => preview(each)}></file-thumbnail>`)}</p>` : nothing}
    ${attached.length ? attached.map((each) => fileLine(each, preview)) : data.attachmentUri ? link(data.attachmentUri) : nothing}
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
      ${isEmpty(data[name]) ? nothing : html`<bdi>${name === "eventType" ? stateOf(data[name]) : text(data[name])}</bdi>`}
      ${isEmpty(data.status) ? nothing : html`<bdi class="pill">${stateOf(data.status)}</bdi>`}
      ${kind === "context" ? html`<span class="pill">${t("timeline.given")}</span>` : nothing}
      ${isStale ? html`<span class="stale-mark">${t("timeline.stale", { time: duration(state.ageSeconds ?? 0) })}</span>` : nothing}
      ${caseLink(duplicate)} ${time(at)}
    </p>
    ${members.length ? details(members) : nothing}
  </li>`;
}

/** Show a recorded change of the case: who changed what. @param {Entry} entry @param {Shown} shown */
function change({ at, data, duplicate }, { nameOf }) {
  const changes = Object.entries(data.changes).filter(([name]) => !/Ids?$/.test(name) || name === "assignedAgentId");
  const opened = data.action === "case.opened" || data.action === "case.imported"; // the page has what they were opened with
  const shown = (/** @type {string} */ name, /** @type {any} */ value) => (name === "assignedAgentId" && !isEmpty(value) ? nameOf({ authorType: "agent", authorId: value }) : changed(name, value));
  return html`<li class="fact">
    <p class="meta">
      <strong>${word("action", data.action)}</strong>
      ${data.actor ? html`<bdi>${nameOf({ authorType: "agent", authorId: data.actor })}</bdi>` : nothing}
      ${opened ? nothing : changes.map(([name, [before, after]]) => html`<span><span class="muted">${word("field", name)}</span> ${isEmpty(before) ? nothing : html`<bdi>${shown(name, before)}</bdi> → `}${name === "splitInto" ? linkToCase(text(after)) : html`<bdi>${shown(name, after)}</bdi>`}</span>`)}
      ${caseLink(duplicate)} ${time(at)}
    </p>
  </li>`;
}

/** Groups of words for values that are not those of their field's name. @type {Record<string, string>} */
const GROUPS_OF_WORDS = { kind: "link", target: "sla_target", authorType: "author", attachmentVisibility: "visibility" };
const AT = /^\d{4}-\d\d-\d\dT[\d:.]+Z$/; // a time of the API

/**
 * @param {string} name
 * @param {any} value
 */
export function changed(name, value) {
  if (typeof value === "string" && AT.test(value)) return dateAndTime(value);
  return isEmpty(value) ? "–" : word(GROUPS_OF_WORDS[name] ?? name, value);
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
  if (!attachmentIds?.length && !attachmentUri) return [];
  const files = entries.filter(({ kind }) => kind === "file");
  if (attachmentIds?.length) return files.filter(({ data }) => attachmentIds.includes(data.id));
  return attachmentUri ? files.filter(({ data }) => samePath(data.uri, attachmentUri)) : [];
}

/** Whether a file can be shown. @param {any} file */
export function isPicture({ contentType }) {
  return IMAGE.test(text(contentType));
}

/**
 * @param {any} data
 * @param {(file: any) => void} preview
 * @param {(file: any) => void} [remove]
 */
export function fileLine(data, preview, remove) {
  return html`<p class="file">
    <a href=${pathOf(data.uri)} download><bdi>${data.filename}</bdi></a>
    <span class="muted">${size(data.sizeBytes)}</span>
    ${isPicture(data) ? html`<button class="plain" @click=${() => preview(data)}>${t("files.preview")}</button>` : nothing}
    ${remove ? html`<button class="plain" aria-label=${t("files.delete", { name: data.filename })} @click=${() => remove(data)}>${t("files.delete_short")}</button>` : nothing}
  </p>`;
}

/** Show an address that a message names: as a link only if it leads to this service or to a web page. @param {string} uri */
function link(uri) {
  if (!/^(https?:\/\/|\/support\/)/.test(uri)) return html`<p class="file"><bdi>${uri}</bdi></p>`;
  return html`<p class="file"><a href=${uri} target="_blank" rel="noopener noreferrer"><bdi>${uri}</bdi></a></p>`;
}

/** @param {string} id */
function linkToCase(id) {
  return html`<a href=${`/console/cases/${encodeURIComponent(id)}`}>${id.slice(0, 8)}</a>`;
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

/** @typedef {{kind: "text" | "quote" | "signature" | "rest", lines: string[]}} Part */

/** Show a message. @param {unknown} message */
function messageText(message) {
  const given = text(message);
  const parts = partsOf(given);
  const links = { count: 0 };
  const shown = parts.some(({ kind, lines }) => kind === "text" && lines.join("").trim()) ? parts.map((part) => shownPart(part, links)) : withLinks(given, links);
  return links.count > MOST_LINKS ? html`${shown}<p class="muted">${t("timeline.most_links", { n: MOST_LINKS })}</p>` : shown;
}

/** @param {Part} part @param {{count: number}} links those of the message up to here */
function shownPart({ kind, lines }, links) {
  const shown = withLinks(lines.join("\n"), links);
  return kind === "text" ? html`${shown}` : html`<details class="fold"><summary>${t(`timeline.${kind}`)}</summary><div>${shown}</div></details>`;
}

/** Return a message as what its author wrote, and what is quoted or signs it. @param {string} message @returns {Part[]} */
function partsOf(message) {
  /** @type {Part[]} */
  const parts = [];
  let isSigned = false;
  for (const line of message.split("\n")) {
    isSigned ||= SIGNATURE.test(line);
    const kind = parts.length >= MOST_PARTS ? "rest" : isSigned ? "signature" : QUOTED.test(line) ? "quote" : "text";
    const last = parts[parts.length - 1];
    if (last?.kind === kind) last.lines.push(line);
    else parts.push({ kind, lines: [...(kind === "quote" && last ? introduction(last.lines) : []), line] });
  }
  return parts;
}

/** Take the line that introduces a quote off the text before it. @param {string[]} lines @returns {string[]} */
function introduction(lines) {
  let count = 1;
  while (count < lines.length && !lines[lines.length - count].trim()) count += 1;
  const line = lines[lines.length - count].trim();
  return line.endsWith(":") && line.length <= LONGEST_INTRODUCTION ? lines.splice(-count) : [];
}

/** Return a text with links, as far as its message may have more. @param {string} plain @param {{count: number}} links those of the message up to here */
function withLinks(plain, links) {
  const parts = [];
  let from = 0;
  for (const found of plain.matchAll(LINK)) {
    links.count += 1;
    if (links.count > MOST_LINKS) break;
    const [whole, address, mail, id] = found;
    const shown = address ? whole.replace(AFTER_ADDRESS, "") : whole;
    parts.push(plain.slice(from, found.index));
    if (address) parts.push(html`<a href=${shown} target="_blank" rel="noopener noreferrer"><bdi>${shown}</bdi></a>`);
    else if (mail) parts.push(html`<a href=${`mailto:${mail}`}><bdi>${mail}</bdi></a>`);
    else parts.push(html`<a class="id" href=${searchFor(id)}><bdi>${id}</bdi></a>`);
    from = found.index + shown.length;
  }
  return parts.length ? [...parts, plain.slice(from)] : plain;
}

/** Return the address of the cases that have a word. @param {string} word */
export function searchFor(word) {
  return `/console/?view=all&q=${encodeURIComponent(word)}`;
}
