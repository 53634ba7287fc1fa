/** What is done with the selected cases of the queue: one bulk change with its outcomes and its undo, or a merge. */

import { explain, newKey, Problem, request, tagOf, versionOf } from "../lib/api.js";
import { dateAndTime, number, t, word } from "../lib/i18n.js";
import { html } from "../lib/page.js";
import { peopleItems } from "./person.js";
import { knownTags, teamItems } from "./queue-parts.js";
import { snoozeTimes } from "./snooze-times.js";
import { hide, toast } from "./toast.js";

const PATH = "/support/cases/bulk";
const PAUSES = [1_000, 3_000]; // ms before a request without an answer is sent again, with its key
const PASSING = ["no_answer", "idempotency_key_in_use", "overloaded", "database_busy", "database_unavailable", "bulk_changes_waiting"];

/**
 * @typedef {import("../pages/queue.js").QueuePage} QueuePage
 * @typedef {import("./choice-menu.js").Item} Item
 */

/** The bar below the list. @param {QueuePage} page */
export function bar(page) {
  const ids = [...page.selected];
  const rows = ids.flatMap((id) => page.cases.find(id) ?? []);
  const choose = (/** @type {(value: string) => object} */ change) => (/** @type {CustomEvent<string>} */ { detail }) => changeCases(page, ids, change(detail));
  /** @param {string} action @param {string} key @param {Item[]} items @param {(event: CustomEvent<string>) => void} chosen */
  const menu = (action, key, items, chosen, creatable = false) =>
    html`<choice-menu
      data-action=${action}
      .label=${html`${word("bulk", action)} ${key ? html`<kbd>${key}</kbd>` : ""}`}
      .name=${`${word("bulk", action)} ${key}`.trim()}
      .items=${items}
      .creatable=${creatable}
      @choose=${chosen}
    ></choice-menu>`;
  return html`
    <div class="bulk" role="group" aria-label=${t("bulk.title")}>
      <span role="status"><b>${t("bulk.selected", { n: rows.length })}</b></span>
      ${menu("assign", "a", peopleItems(page.people, "none"), choose((id) => ({ assignedAgentId: id === "none" ? null : id })))}
      ${menu("team", "", teamItems(page), choose((team) => ({ team: team === "none" ? null : team })))}
      ${menu("priority", "p", words("priority", ["urgent", "high", "normal", "low"]), choose((priority) => ({ priority })))}
      ${menu("status", "s", words("status", ["open", "pending", "resolved", "closed"]), choose((status) => ({ status })))}
      ${menu("tag", "t", tagItems(page, rows), choose((tag) => (hasAll(rows, tag) ? { removeTags: [tag] } : { addTags: [tag] })), true)}
      ${menu("snooze", "h", snoozeItems(), choose((until) => ({ status: "pending", until })))}
      ${rows.length > 1 ? menu("merge", "m", originalItems(rows), ({ detail }) => merge(page, rows, detail)) : ""}
      <span class="grow"></span>
      <button class="plain" @click=${page.clear}>${t("bulk.clear")} <kbd>Esc</kbd></button>
    </div>
  `;
}

/** @param {string} group @param {string[]} values @returns {Item[]} */
function words(group, values) {
  return values.map((value) => ({ value, text: word(group, value) }));
}

/** @param {any[]} rows @param {string} tag */
function hasAll(rows, tag) {
  return rows.every(({ tags }) => tags.includes(tag));
}

/** @param {QueuePage} page @param {any[]} rows @returns {Item[]} */
function tagItems(page, rows) {
  return knownTags(page).map((value) => ({ value, text: value, detail: hasAll(rows, value) ? t("bulk.remove_tag") : undefined }));
}

/** @returns {Item[]} */
function snoozeItems() {
  return snoozeTimes(new Date()).map(({ name, at }) => ({ value: at.toISOString(), text: t(name), detail: dateAndTime(at) }));
}

/** The cases that may stay, the oldest first. @param {any[]} rows @returns {Item[]} */
function originalItems(rows) {
  const sorted = [...rows].sort((one, other) => Date.parse(one.createdAt) - Date.parse(other.createdAt));
  return sorted.map(({ id, subject, customerName, customerId }) => ({
    value: id,
    text: t("bulk.merge_into", { subject }),
    detail: customerName ?? customerId ?? undefined,
  }));
}

/**
 * Send a request again with the same key while it has no answer: the service carries out a key once.
 * @param {string} path
 * @param {import("../lib/api.js").Options} options
 * @returns {Promise<import("../lib/api.js").Answer>}
 */
async function sendSurely(path, options) {
  const key = newKey();
  for (const pause of PAUSES) {
    try {
      return await request(path, { ...options, key });
    } catch (failure) {
      if (!(failure instanceof Problem) || !PASSING.includes(failure.code)) throw failure;
      await new Promise((resume) => setTimeout(resume, pause));
    }
  }
  return request(path, { ...options, key });
}

/**
 * Give cases the same new values, and say what became of them. They stay selected if the change failed.
 * @param {QueuePage} page
 * @param {string[]} ids
 * @param {any} change
 */
async function changeCases(page, ids, change) {
  hide();
  await page.clear();
  try {
    const { data: outcomes } = await sendSurely(PATH, { method: "POST", body: { ids, change } });
    for (const { id, outcome } of outcomes.items) {
      const row = page.cases.find(id); // undefined if the page shows another list by now
      if (row && outcome === "changed") page.cases.patch(id, changedValues(row, change));
    }
    const isChanged = outcomes.counts.changed > 0;
    toast({ text: describe(outcomes), isError: !isChanged && outcomes.counts.refused > 0, undo: isChanged ? () => undo(page, outcomes.id) : undefined });
    changed(page);
  } catch (failure) {
    page.select(ids.filter((id) => page.cases.find(id)));
    toast({ text: explain(failure), isError: true });
  }
}

/** @param {QueuePage} page @param {string} id of the bulk change */
async function undo(page, id) {
  const { data: outcomes } = await sendSurely(`${PATH}/${id}/undo`, { method: "POST" });
  if (outcomes.counts.refused) toast({ text: describe(outcomes), isError: true });
  changed(page);
}

/** @param {QueuePage} page */
function changed(page) {
  page.cases.refreshSoon();
  page.countSoon();
}

/** Return the values of a row after a change. @param {any} row @param {any} change */
function changedValues(row, { addTags = [], removeTags = [], until, ...values }) {
  const tags = [...new Set([...row.tags, ...addTags])].filter((tag) => !removeTags.includes(tag));
  return { ...values, tags, ...(values.status ? { snoozedUntil: until ?? null } : {}) };
}

/** @param {{counts: Record<string, number>, items: {outcome: string, code: string | null}[]}} outcomes */
function describe({ counts, items }) {
  const parts = /** @type {const} */ (["changed", "undone", "unchanged"]).flatMap((name) => (counts[name] ? t(`bulk.${name}`, { n: number(counts[name]) }) : []));
  if (!counts.refused) return parts.join(", ");
  const codes = new Set(items.flatMap(({ outcome, code }) => (outcome === "refused" && code ? code : [])));
  const reasons = [...codes].map((code) => explain(new Problem({ status: 409, code, detail: "" }))).join(" ");
  return [...parts, t("bulk.refused", { n: number(counts.refused), reasons })].join(", ");
}

/**
 * Close all but one of the cases as its duplicates. Those that were not closed stay selected.
 * @param {QueuePage} page
 * @param {any[]} rows
 * @param {string} into
 */
async function merge(page, rows, into) {
  page.active = into;
  hide();
  await page.clear();
  /** @type {string[]} */
  const merged = [];
  let version = 0; // of the original, after the last merge
  /** @type {Set<string>} */
  const reasons = new Set();
  for (const { id } of rows) {
    if (id === into) continue;
    try {
      const { etag } = await sendSurely(`/support/cases/${encodeURIComponent(id)}/merge`, { method: "POST", body: { into } });
      version = versionOf(etag);
      page.cases.patch(id, { status: "closed", mergedInto: into });
      merged.push(id);
    } catch (failure) {
      reasons.add(explain(failure));
    }
  }
  const undoMerge = async () => {
    const original = `/support/cases/${encodeURIComponent(into)}`;
    const { data } = await request(`${original}?messagesLimit=1`);
    const added = data.links.filter((/** @type {any} */ each) => each.kind === "duplicated-by" && merged.includes(each.caseId));
    for (const { id } of added) await sendSurely(`${original}/links/${id}`, { method: "DELETE", ifMatch: tagOf(version++) });
    changed(page);
  };
  if (reasons.size) page.select(rows.flatMap(({ id }) => (page.cases.find(id) && !merged.includes(id) ? id : [])));
  const parts = merged.length ? [t("bulk.merged", { n: number(merged.length) })] : [];
  if (reasons.size) parts.push(t("bulk.refused", { n: number(rows.length - 1 - merged.length), reasons: [...reasons].join(" ") }));
  toast({ text: parts.join(", "), isError: !merged.length, undo: merged.length ? undoMerge : undefined });
  changed(page);
}
