/** The list of macros that opens under `;` in the composer. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { can, explain, request } from "../lib/api.js";
import { t, word } from "../lib/i18n.js";
import { html } from "../lib/page.js";

// The word after a `;` before the cursor.
const CALL = /(?:^|\s);([\w.-]*)$/;

export class MacroList {
  /** @type {any[] | null} */
  macros = null;
  /** @type {{box: HTMLTextAreaElement, start: number, typed: string} | null} */
  call = null;
  selected = 0;
  message = "";

  /**
   * @param {() => void} changed
   * @param {(box: HTMLTextAreaElement, start: number, filled: any) => void} insert
   */
  constructor(changed, insert) {
    this.changed = changed;
    this.insert = insert;
  }

  get found() {
    return this.call && this.macros ? findMacros(this.macros, this.call.typed) : [];
  }

  get isOpen() {
    return this.found.length > 0;
  }

  get activeId() {
    return this.isOpen ? `macro-${this.selected}` : nothing;
  }

  /** Follow what is typed. @param {HTMLTextAreaElement} box */
  async follow(box) {
    if (!can("macros:read")) return;
    const found = macroCall(box.value, box.selectionStart);
    this.call = found && { box, ...found };
    this.selected = 0;
    if (this.call && !this.macros) {
      this.macros = [];
      this.macros = (await request("/support/macros?limit=200").catch(() => ({ data: { items: [] } }))).data.items;
    }
    this.changed();
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
    else if ((event.key === "Enter" && !event.ctrlKey) || event.key === "Tab") this.pick(this.found[this.selected], caseId);
    else return false;
    event.preventDefault();
    this.changed();
    return true;
  }

  /**
   * Fill a macro from the case, and insert it.
   * @param {any} macro
   * @param {string} caseId
   */
  async pick(macro, caseId) {
    if (!this.call) return;
    const { box, start } = this.call;
    this.call = null;
    this.message = t("app.loading");
    this.changed();
    try {
      const path = `/support/cases/${encodeURIComponent(caseId)}/macros/${macro.name}/preview`;
      const { data } = await request(path, { method: "POST" });
      this.message = data.unfilled.length ? t("macro.unfilled", { names: data.unfilled.map(unfilled).join(", ") }) : "";
      this.insert(box, start, data);
    } catch (failure) {
      this.message = explain(failure);
    }
    this.changed();
  }

  /** @param {string} caseId */
  render(caseId) {
    return html`<ul id="macros" class="macros" role="listbox" aria-label=${t("macro.title")} ?hidden=${!this.isOpen}>
      ${this.found.map(
        (macro, index) =>
          html`<li
            id="macro-${index}"
            role="option"
            aria-selected=${index === this.selected}
            @mousedown=${(/** @type {Event} */ event) => event.preventDefault()}
            @click=${() => this.pick(macro, caseId)}
          >
            <b>${macro.name}</b> <span>${macro.text.slice(0, 90)}</span>
          </li>`,
      )}
    </ul>`;
  }
}

/** @param {{variable: string, reason: string}} each */
function unfilled({ variable, reason }) {
  return `${variable} (${word("macro_reason", reason)})`;
}

/**
 * Return where the word begins and what has been typed of it, or null.
 * @param {string} text
 * @param {number} cursor
 */
function macroCall(text, cursor) {
  const found = CALL.exec(text.slice(0, cursor));
  return found ? { start: cursor - found[1].length - 1, typed: found[1].toLowerCase() } : null;
}

/**
 * Return the macros whose name or text contains what was typed; those whose name begins with it come first.
 * @param {any[]} macros
 * @param {string} typed
 */
function findMacros(macros, typed) {
  const rank = (/** @type {any} */ macro) => {
    const name = macro.name.toLowerCase();
    if (name.startsWith(typed)) return 0;
    if (name.includes(typed)) return 1;
    return macro.text.toLowerCase().includes(typed) ? 2 : 3;
  };
  return macros
    .map((macro) => ({ macro, rank: rank(macro) }))
    .filter((each) => each.rank < 3)
    .sort((one, other) => one.rank - other.rank)
    .map((each) => each.macro)
    .slice(0, 8);
}
