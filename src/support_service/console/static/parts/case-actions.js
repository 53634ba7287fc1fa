/** What the reader of a case does to it. Each change is reported with its undo. Loaded with the first one. */

import { agent, can, explain, newKey, request, tagOf } from "../lib/api.js";
import { dateAndTime, t, text, word } from "../lib/i18n.js";
import { go, holdingKeys } from "../lib/page.js";
import * as changes from "./case-changes.js";
import { describeChanges } from "./change-question.js";
import { hide, toast } from "./toast.js";

/**
 * @typedef {import("../pages/case.js").CasePage} CasePage
 * @typedef {import("./composer.js").Composer} Composer
 * @typedef {{id: string, kind: string, caseId: string}} Link
 */

/** Claim the case. Ask first if a colleague has it. @param {CasePage} page @returns {Promise<unknown>} */
export async function claim(page) {
  const holder = page.detail?.assignedAgentId;
  if (!can("cases:write") || !page.detail || holder === agent()) return;
  if (!holder) return change(page, { assignedAgentId: agent() });
  const question = { title: t("claim.title"), text: t("case.claimed_first", { agent: holder }), yes: t("claim.confirm") };
  if (!(await page.confirm(question))) return;
  if (page.detail.assignedAgentId !== holder) return claim(page); // its holder has changed meanwhile
  return change(page, { assignedAgentId: agent() });
}

/** Change fields of the case, unless it has changed since it was shown. @param {CasePage} page @param {Record<string, any>} values */
export function change(page, values) {
  const described = Object.entries(values).map(([name, value]) => `${word("field", name)}: ${nameOfValue(page, name, value)}`);
  return perform(page, described.join(", "), (caseId, detail, tag) => changes.change(caseId, detail, values, tag));
}

/** Change the tags of the case: those that it has then, when changes before this one are done. @param {CasePage} page @param {(tags: string[]) => string[]} edit */
export function changeTags(page, edit) {
  const described = `${word("field", "tags")}: ${nameOfValue(page, "tags", edit(page.detail.tags))}`;
  return perform(page, described, (caseId, detail, tag) => changes.change(caseId, detail, { tags: edit(detail.tags) }, tag));
}

/** Do what the menu of the head, or a key, says. @param {CasePage} page @param {string} name */
export async function act(page, name) {
  if (!can("cases:write") || !page.detail) return;
  if (name === "release") return change(page, { assignedAgentId: null });
  if (name === "audit") return go(`/console/audit?case=${encodeURIComponent(page.caseId)}`);
  if (page.detail.status === "closed") return;
  const { view } = page;
  await holdingKeys(async () => {
    await import("./case-dialogs.js");
    if (!page.stillShows(view)) return false;
    page.set({ dialog: name });
    return page.updateComplete;
  });
}

/** @param {CasePage} page @param {any} decided what the dialog says, or null */
export async function decide(page, decided) {
  const name = page.dialog;
  page.set({ dialog: null });
  await page.updateComplete;
  if (!decided) return;
  const { until, into, messageIds, subject } = decided;
  if (name === "snooze") await perform(page, t("snooze.done", { time: dateAndTime(until) }), (caseId, detail, tag) => changes.snooze(caseId, detail, until, tag));
  else if (name === "merge") await perform(page, t("merge.done", { subject }), (caseId, _, tag) => changes.merge(caseId, into, tag));
  else await perform(page, t("split.done", { subject }), (caseId, _, tag) => changes.split(caseId, messageIds, subject, tag));
}

/** @param {CasePage} page @param {string} kind @param {string} other */
export async function addLink(page, kind, other) {
  const described = t("aside.link_added", { kind: word("link", kind) });
  const link = (/** @type {string} */ caseId, /** @type {any} */ { status }, /** @type {string} */ tag) => changes.link(caseId, kind, other, status === "closed", tag);
  if (!(await perform(page, described, link, "linkFailure"))) return;
  /** @type {HTMLFormElement | null} */ (page.querySelector(".link-form"))?.reset();
  await page.loadCustomer();
}

/** @param {CasePage} page @param {Link} removed */
export async function removeLink(page, removed) {
  const described = t("aside.link_removed", { kind: word("link", removed.kind) });
  const unlink = (/** @type {string} */ caseId, /** @type {any} */ { status }, /** @type {string} */ tag) => changes.unlink(caseId, removed, status === "closed", tag);
  if (await perform(page, described, unlink, "linkFailure")) await page.loadCustomer();
}

/** Delete a file of the case, after a question. @param {CasePage} page @param {any} file */
export async function deleteFile(page, file) {
  const question = { title: t("files.delete_title"), text: t("files.delete_text", { name: file.filename }), yes: t("files.delete_confirm") };
  if (!(await page.confirm(question))) return;
  const { composer, version, view } = page;
  page.set({ message: "" });
  try {
    await request(`/support/cases/${encodeURIComponent(file.ticketId)}/attachments/${file.id}`, { method: "DELETE", key: newKey() });
    if (file.ticketId === composer.caseId) composer.noteOwnChange({ from: version, to: version + 1 });
    await page.reload();
  } catch (failure) {
    if (page.stillShows(view)) page.set({ message: explain(failure) });
    else toast({ text: explain(failure), isError: true });
  }
}

/** @param {CasePage} _ @param {string} copied */
export async function copy(_, copied) {
  try {
    await navigator.clipboard.writeText(copied);
    toast({ text: t("aside.copied", { text: copied }) });
  } catch {
    toast({ text: t("audit.not_copied"), isError: true });
  }
}

/** @param {CasePage} page @param {string} name @param {any} value */
export function nameOfValue({ people }, name, value) {
  if (value === null || value === "") return t("case.unassigned");
  if (name !== "assignedAgentId") return text(Array.isArray(value) ? value : word(name, value)) || "–";
  return people.find(({ id }) => id === value)?.displayName ?? value;
}

/**
 * Make a change that can be undone, after those that were asked for before, and say so. Return whether it was made.
 * @param {CasePage} page
 * @param {string} described
 * @param {(caseId: string, detail: any, tag: string) => Promise<changes.Made>} make
 * @param {"message" | "linkFailure"} [place] where a failure is shown
 */
async function perform(page, described, make, place = "message") {
  const { caseId, composer, view } = page;
  const waiting = page.changing;
  let done = () => {};
  page.changing = new Promise((resolve) => (done = () => resolve(undefined)));
  await waiting;
  try {
    if (!page.stillShows(view)) return false;
    hide();
    page.set({ message: "", [place]: "" });
    const { versions, undo: sendUndo } = await make(caseId, page.detail, tagOf(page.version));
    composer.noteOwnChange(versions);
    toast({ text: described, undo: () => undo(page, composer, sendUndo) });
    if (page.stillShows(view)) await page.reload();
    return true;
  } catch (failure) {
    if (page.stillShows(view)) await page.reload().catch(() => {});
    if (page.stillShows(view)) page.set({ [place]: explain(failure) });
    else toast({ text: explain(failure), isError: true });
    return false;
  } finally {
    done();
    if (page.stillShows(view)) await keepFocus(page);
  }
}

/** Undo a change of a case, which may not be the one that is shown any more. @param {CasePage} page @param {Composer} composer of the case @param {changes.Undo} sendUndo */
export async function undo(page, composer, sendUndo) {
  const versions = await sendUndo();
  const isShown = composer.caseId === page.caseId && page.isConnected;
  (isShown ? page.composer : composer).noteOwnChange(versions);
  if (isShown) await page.reload();
}

/** Put the focus to the assignee if what had it is gone. @param {CasePage} page */
async function keepFocus(page) {
  await page.updateComplete;
  if (document.activeElement === document.body) page.menu("assignee")?.querySelector("button")?.focus();
}

/**
 * Show what changed since the draft began, and ask whether to send it all the same. The refusal has the messages that
 * were added; a draft that was taken up after a reload has nothing else to compare with. A writer who has gone on is not
 * asked: the keys are for something else.
 * @param {CasePage} page
 * @param {import("./composer.js").Attempt} asked
 * @param {import("../lib/api.js").Problem} refusal
 */
export async function askAboutChange(page, asked, refusal) {
  const { composer } = page;
  const before = asked.draft.seenDetail;
  await page.reload().catch(() => {}); // the refusal has the new messages
  if (page.composer !== composer || !page.isResting) return composer.explain(refusal, asked);
  const known = new Set((before?.messages ?? []).map((/** @type {any} */ each) => each.id));
  const added = refusal.members.messages ?? (before ? page.detail.messages : []);
  const messages = added.filter((/** @type {any} */ each) => !known.has(each.id));
  page.set({ question: { messages, changes: before ? describeChanges(before, page.detail) : [], asked } });
}

/** @param {CasePage} page @param {boolean} isYes */
export async function answerQuestion(page, isYes) {
  const { composer, question } = page;
  page.set({ question: null });
  if (!question) return;
  const { draft, mode, end } = question.asked;
  draft.see(page.detail, page.version); // the writer has seen the question
  composer.keep();
  await composer.choose(mode);
  if (isYes) await composer.send(end, { evenIfChanged: true });
}

/** Let the writer correct a part of a message. @param {CasePage} page @param {import("./composer.js").Attempt} attempt @param {string} part */
export async function correct({ composer }, { draft, mode }, part) {
  if (composer.drafts[mode] !== draft) return;
  await composer.choose(mode);
  const { box } = composer;
  const start = box.value.indexOf(part);
  const before = /** @type {HTMLTextAreaElement} */ (box.cloneNode()); // the browser shows no selection by itself
  Object.assign(before, { value: box.value.slice(0, start), rows: 1 });
  box.after(before);
  box.scrollTop = before.scrollHeight - box.clientHeight / 2;
  before.remove();
  box.setSelectionRange(start, start + part.length);
}
