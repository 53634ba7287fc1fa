/** The list that opens in the composer: macros under `;`, and in a note people and teams under `@`. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { agents } from "../lib/agents.js";
import { can, explain, request } from "../lib/api.js";
import { t, word } from "../lib/i18n.js";
import { html } from "../lib/page.js";
import { folded } from "./choice-menu.js";

const CALL = /(?:^|\s)([;@])([\p{L}\p{M}\p{N}_.@-]{0,64})$/u; // the word before the cursor
const MOST = 8;

/** @typedef {{value: string, text: string, macro?: any}} Suggestion */
/** @typedef {{box: HTMLTextAreaElement, start: number, end: number, text: string}} Place where a word is replaced, and the text with it */

export class Suggestions {
  /** @type {any[] | null} */
  macros = null;
  /** @type {Suggestion[] | null} */
  people = null;
  /** Where the word begins, and what has been typed of it. @type {{box: HTMLTextAreaElement, sign: string, start: number, typed: string} | null} */
  call = null;
  selected = 0;
  message = "";
  /** Whether the macros that were chosen could be inserted, while they are on their way. @type {Promise<boolean> | null} */
  filling = null;
  /** The requests under way, by their sign. @type {Record<string, Promise<unknown>>} */
  loading = {};

  /** @param {import("./composer.js").Composer} composer */
  constructor(composer) {
    this.composer = composer;
  }

  changed() {
    this.composer.page.requestUpdate();
  }

  /** @returns {Suggestion[]} */
  get found() {
    if (!this.call) return [];
    const { sign, typed } = this.call;
    if (sign === "@") return ranked(this.people ?? [], typed);
    return ranked((this.macros ?? []).map((macro) => ({ value: macro.name, text: macro.text, macro })), typed);
  }

  get isOpen() {
    return this.found.length > 0;
  }

  get activeId() {
    return this.isOpen ? `suggestion-${this.selected}` : nothing;
  }

  /** Follow what is typed. @param {HTMLTextAreaElement} box @param {boolean} isNote */
  async follow(box, isNote) {
    const [, sign, typed] = CALL.exec(box.value.slice(0, box.selectionStart)) ?? [];
    const isWanted = sign === ";" ? can("macros:read") : sign === "@" && isNote;
    this.call = isWanted ? { box, sign, typed: folded(typed), start: box.selectionStart - typed.length - 1 } : null;
    this.selected = 0;
    if (this.call) await this.load(sign);
    this.changed();
  }

  /** Show all macros, for those who use the mouse. @param {HTMLTextAreaElement} box */
  async openMacros(box) {
    box.focus();
    this.call = { box, sign: ";", typed: "", start: box.selectionStart };
    this.selected = 0;
    await this.load(";");
    if (this.macros) this.message = this.isOpen ? "" : t("macro.none");
    this.changed();
  }

  /** Read what is suggested; what can't be read is asked for again by the next key. @param {string} sign */
  async load(sign) {
    if (sign === "@" ? this.people : this.macros) return;
    this.loading[sign] ??= sign === "@" ? readPeople().then((people) => (this.people = people)) : readMacros().then((macros) => (this.macros = macros));
    try {
      await this.loading[sign];
      this.message = "";
    } catch (failure) {
      this.message = explain(failure);
    }
    delete this.loading[sign];
  }

  close() {
    this.call = null;
    this.changed();
  }

  /**
   * Handle a key while the list is open. Return whether it was one of the list's.
   * @param {KeyboardEvent} event
   * @param {string} caseId
   */
  key(event, caseId) {
    if (!this.isOpen) return false;
    const count = this.found.length;
    if (event.key === "ArrowDown") this.selected = (this.selected + 1) % count;
    else if (event.key === "ArrowUp") this.selected = (this.selected + count - 1) % count;
    else if (event.key === "Escape") this.call = null;
    else if ((event.key === "Enter" && !event.ctrlKey && !event.metaKey) || event.key === "Tab") this.pick(this.found[this.selected], caseId);
    else return false;
    event.preventDefault();
    event.stopPropagation();
    this.changed();
    return true;
  }

  /**
   * Insert a name, or a macro that is filled from the case.
   * @param {Suggestion} picked
   * @param {string} caseId
   */
  pick({ value, macro }, caseId) {
    if (!this.call) return;
    const { box, start } = this.call;
    const { draft } = this.composer; // another one may be shown once the macro is there
    const place = { box, start, end: box.selectionStart, text: box.value };
    const insert = (/** @type {any} */ filled) => this.insert(draft, place, filled);
    this.call = null;
    if (macro) this.fillAll(this.fill(value, caseId, insert));
    else insert({ text: `@${value} `, status: null, tags: [] });
  }

  /** Note that a macro is on its way, besides those before it. @param {Promise<boolean>} fill */
  async fillAll(fill) {
    const filling = (this.filling = Promise.all([this.filling ?? true, fill]).then((each) => each.every(Boolean)));
    await filling;
    if (this.filling === filling) this.filling = null;
  }

  /** Insert a macro, and return whether it could be filled. @param {string} name @param {string} caseId @param {(filled: any) => boolean} insert */
  async fill(name, caseId, insert) {
    this.message = t("app.loading");
    this.changed();
    try {
      const path = `/support/cases/${encodeURIComponent(caseId)}/macros/${name}/preview`;
      const { data } = await request(path, { method: "POST" });
      this.message = data.unfilled.length ? t("macro.unfilled", { names: data.unfilled.map(unfilled).join(", ") }) : "";
      return insert(data);
    } catch (failure) {
      this.message = explain(failure);
      return false;
    } finally {
      this.changed();
    }
  }

  /**
   * Insert the text of a macro into its message, also if another message is shown by then. Its status and tags wait
   * until the message is sent. Return whether its place is still there.
   * @param {import("./composer.js").Composer["draft"]} draft
   * @param {Place} place
   * @param {any} filled
   */
  insert(draft, { box, start, end, text }, filled) {
    const { composer } = this;
    const isOpen = Object.values(composer.drafts).includes(draft);
    const called = text.slice(start, end);
    if (draft.text.slice(start, end) !== called) [start, end] = [draft.text.indexOf(called), draft.text.indexOf(called) + called.length]; // moved by another macro
    if (!isOpen || start < 0) return false; // sent, or changed there
    if (box.isConnected) {
      box.setRangeText(filled.text, start, end, box.selectionStart === end ? "end" : "preserve");
      box.dispatchEvent(new InputEvent("input", { bubbles: true }));
    } else draft.text = draft.text.slice(0, start) + filled.text + draft.text.slice(end);
    if (can("cases:write")) {
      if (filled.status) draft.status = filled.status;
      const known = [...composer.page.detail.tags, ...draft.tags];
      draft.tags = [...draft.tags, ...filled.tags.filter((/** @type {string} */ tag) => !known.includes(tag))];
    }
    composer.keep();
    this.changed();
    return true;
  }

  /** @param {string} caseId */
  render(caseId) {
    const title = this.call?.sign === "@" ? t("composer.people") : t("macro.title");
    return html`<ul id="suggestions" class="suggestions" role="listbox" tabindex="0" aria-label=${title} ?hidden=${!this.isOpen}>
      ${this.found.map(
        (each, index) =>
          html`<li
            id="suggestion-${index}"
            role="option"
            aria-selected=${index === this.selected}
            @pointerdown=${(/** @type {Event} */ event) => event.preventDefault()}
            @mousedown=${(/** @type {Event} */ event) => event.preventDefault()}
            @click=${() => this.pick(each, caseId)}
          >
            <b>${each.value}</b> <span>${each.text.length > 90 ? `${each.text.slice(0, 89)}…` : each.text}</span>
          </li>`,
      )}
    </ul>`;
  }
}

/** @returns {Promise<any[]>} */
async function readMacros() {
  return (await request("/support/macros?limit=200")).data.items;
}

/** Return whom a note can mention. @returns {Promise<Suggestion[]>} */
async function readPeople() {
  const people = await agents();
  const teams = new Set(people.flatMap(({ teams }) => teams));
  return [...people.map(({ id, displayName }) => ({ value: id, text: displayName ?? "" })), ...[...teams].map((team) => ({ value: team, text: t("composer.team") }))];
}

/** @param {{variable: string, reason: string}} each */
function unfilled({ variable, reason }) {
  return `${variable} (${word("macro_reason", reason)})`;
}

/**
 * Return the suggestions whose value or text contains what was typed; those that begin with it come first.
 * @param {Suggestion[]} all
 * @param {string} typed
 */
function ranked(all, typed) {
  const rank = (/** @type {Suggestion} */ { value, text }) => {
    const name = folded(value);
    if (name.startsWith(typed)) return 0;
    if (name.includes(typed)) return 1;
    return folded(text).includes(typed) ? 2 : 3;
  };
  return all
    .map((each) => ({ each, rank: rank(each) }))
    .filter((found) => found.rank < 3)
    .sort((one, other) => one.rank - other.rank)
    .map(({ each }) => each)
    .slice(0, MOST);
}
