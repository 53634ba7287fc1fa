/** The palette: views, pages, cases, customers and actions, found by typing. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { can, query, request } from "../lib/api.js";
import { Element, go, html } from "../lib/page.js";
import { t, word, wordsOf } from "../lib/i18n.js";
import { auditQuestions } from "./audit-questions.js";
import { folded } from "./choice-menu.js";
import { KEYS } from "./help.js";
import { builtInViews, savedView } from "./views.js";

const PAUSE = 150; // ms after a key until cases and customers are asked for
const SHORTEST = 2; // characters that are asked for
const FOUND = 6; // cases, and customers, that are shown

/**
 * @typedef {import("../lib/i18n.js").TextName} TextName
 * @typedef {{text: string, detail?: string, keys?: string, run: () => void}} Command
 * @typedef {{title: TextName, commands: Command[]}} Group
 */

class CommandPalette extends Element {
  /** The page behind it. */
  page = "";
  /** Commands of the shell: pages and settings. @type {Group[]} */
  groups = [];
  typed = "";
  active = 0;
  /** @type {Group[]} */
  found = [];
  /** @type {import("./views.js").View[]} */
  saved = [];
  busy = false;

  firstUpdated() {
    this.querySelector("dialog")?.showModal();
    if (can("views:read")) request("/support/views").then(({ data }) => this.set({ saved: data.items.map(savedView) })).catch(() => {});
  }

  /** The groups with the commands that match what was typed. @returns {Group[]} */
  get shown() {
    const words = folded(this.typed).split(/\s+/).filter(Boolean);
    const matches = (/** @type {Command} */ { text }) => words.every((word) => folded(text).includes(word));
    const views = can("cases:read") ? [...builtInViews(), ...this.saved] : [];
    /** @type {Group[]} */
    const known = [
      { title: "queue.views", commands: views.map(({ id, name }) => ({ text: name, keys: keysOf(`view.${id}`), run: () => go(`/console/?${query({ view: id })}`) })) },
      ...this.groups,
      { title: "audit.title", commands: can("audit:read") ? auditQuestions().map(([name, filters]) => ({ text: t(name), run: () => go(`/console/audit?${filters}`) })) : [] },
      { title: "oncall.overrides", commands: this.page === "oncall" ? [] : overrides() },
      ...[this.page].flatMap((page) => (KEYS[page] ? [{ title: KEYS[page][0], commands: KEYS[page][1].flatMap(keyCommand) }] : [])),
    ];
    const listed = known.map(({ title, commands }) => ({ title, commands: commands.filter(matches) }));
    return [...listed, ...this.found].filter(({ commands }) => commands.length);
  }

  render() {
    const { shown } = this;
    const all = shown.flatMap(({ commands }) => commands);
    this.active = Math.min(this.active, Math.max(0, all.length - 1));
    return html`<dialog class="palette" aria-label=${t("palette.title")} @close=${() => this.dispatchEvent(new Event("close"))} @click=${this.leave}>
      <input
        role="combobox"
        aria-expanded="true"
        aria-autocomplete="list"
        aria-controls="palette-list"
        aria-label=${t("palette.title")}
        aria-activedescendant=${all.length ? `palette-${this.active}` : nothing}
        placeholder=${t("palette.hint")}
        maxlength="200"
        autocomplete="off"
        spellcheck="false"
        autofocus
        @input=${(/** @type {any} */ event) => this.search(event.target.value)}
        @keydown=${this.press}
      />
      <div id="palette-list" role="listbox" aria-label=${t("palette.title")} aria-busy=${this.busy}>
        ${shown.map(
          ({ title, commands }, group) =>
            html`<div role="group" aria-labelledby="palette-group-${group}">
              <p id="palette-group-${group}" class="muted" role="presentation">${t(title)}</p>
              ${commands.map((command) => this.command(command, all.indexOf(command)))}
            </div>`,
        )}
      </div>
      ${all.length ? nothing : html`<p class="muted" role="status">${this.busy ? t("app.loading") : t("choice.none")}</p>`}
    </dialog>`;
  }

  /**
   * @param {Command} command
   * @param {number} index
   */
  command(command, index) {
    return html`<div
      id="palette-${index}"
      role="option"
      aria-selected=${index === this.active}
      @pointermove=${() => this.active !== index && this.set({ active: index })}
      @click=${() => this.run(command)}
    >
      <bdi>${command.text}</bdi>
      ${command.detail ? html`<bdi class="muted">${command.detail}</bdi>` : nothing} ${command.keys ? html`<kbd>${command.keys}</kbd>` : nothing}
    </div>`;
  }

  /** @param {string} typed */
  search(typed) {
    const isLong = typed.trim().length >= SHORTEST;
    this.set({ typed, active: 0, found: isLong ? this.found : [], busy: isLong });
    this.later(PAUSE, () => isLong && this.ask(typed));
  }

  /** Ask for cases and customers; what was asked before is forgotten. @param {string} typed */
  async ask(typed) {
    const asked = query({ q: typed.trim(), limit: FOUND });
    const read = async (/** @type {string} */ path, /** @type {string} */ permission) =>
      can(permission) ? (await request(`${path}?${asked}`)).data.items : [];
    const [cases, customers] = await Promise.all([
      read("/support/cases", "cases:read").catch(() => []),
      read("/support/customers", "customers:search").catch(() => []),
    ]);
    if (typed !== this.typed) return;
    /** @type {Group[]} */
    const found = [
      { title: "palette.cases", commands: cases.map(caseCommand) },
      { title: "palette.customers", commands: customers.map(customerCommand) },
    ];
    this.set({ found, busy: false });
  }

  /** @param {KeyboardEvent} event */
  async press(event) {
    if (event.isComposing) return;
    const all = this.shown.flatMap(({ commands }) => commands);
    const steps = /** @type {Record<string, number>} */ ({ ArrowDown: 1, ArrowUp: -1 });
    if (event.key in steps && all.length) {
      event.preventDefault();
      this.set({ active: (this.active + steps[event.key] + all.length) % all.length });
      await this.updateComplete;
      this.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
    } else if (event.key === "Enter" && all[this.active]) {
      event.preventDefault();
      this.run(all[this.active]);
    }
  }

  /** Close the palette, which gives the focus back, and run a command. @param {Command} command */
  run(command) {
    this.querySelector("dialog")?.close();
    command.run();
  }

  /** Close it by a click beside it. @param {MouseEvent} event */
  leave({ target }) {
    if (target instanceof HTMLDialogElement) target.close();
  }
}

/** @param {string} name of the text that a key is listed with */
function keysOf(name) {
  return KEYS.everywhere[1].find(([, text]) => text === name)?.[0];
}

/** Return the command that presses a key, if it is a single one. @param {[string, TextName]} key @returns {Command[]} */
function keyCommand([key, text]) {
  if (key.length > 1) return [];
  return [{ text: t(text), keys: key, run: () => document.dispatchEvent(new KeyboardEvent("keydown", { key, cancelable: true })) }];
}

/** What switches services off from another page than that of on-call, which opens with the question why. @returns {Command[]} */
function overrides() {
  if (!can("overrides:write")) return [];
  return wordsOf("source").map((name) => ({ text: t("override.title", { name: word("source", name) }), run: () => go(`/console/oncall?off=${name}`) }));
}

/** @param {any} item @returns {Command} */
function caseCommand({ id, subject, status, customerName, customerId }) {
  const detail = [word("status", status), customerName ?? customerId].filter(Boolean).join(" · ");
  return { text: subject, detail, run: () => go(`/console/cases/${encodeURIComponent(id)}`) };
}

/** @param {any} item @returns {Command} */
function customerCommand({ customerId, name, contacts }) {
  return { text: name ?? customerId, detail: contacts[0]?.value, run: () => go(`/console/customers/${encodeURIComponent(customerId)}`) };
}

customElements.define("command-palette", CommandPalette);
