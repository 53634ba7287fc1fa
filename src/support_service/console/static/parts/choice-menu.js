/**
 * A button that opens a list to choose from: type to filter, arrow keys, Enter, Escape.
 *
 * The list opens above everything else, and the focus returns to where it was before.
 */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { Element, hasModifier, html } from "../lib/page.js";
import { t } from "../lib/i18n.js";

const GAP = 4; // px between the button and its list
const EDGE = 8; // px between the list and the edge of the window

/** @typedef {{value: string, text: string, detail?: string, mark?: unknown, digit?: number}} Item `mark` stands before the text. The key of `digit` chooses the item */

let menus = 0;

/**
 * Return a text without case and diacritics, as people type it.
 * @param {string} text
 */
export function folded(text) {
  return text.toLowerCase().normalize("NFD").replace(/\p{M}/gu, "").replaceAll("đ", "d");
}

/** @param {Event} event */
function keepFocus(event) {
  if (!(event.target instanceof HTMLInputElement)) event.preventDefault();
}

/**
 * Dispatches `choose` with the chosen value; with `multiple`, with the list of values when the list is closed by "Apply"
 * or from outside. Escape changes nothing.
 */
export class ChoiceMenu extends Element {
  // Not fields of the class, which would hide the properties that render the menu again.
  static properties = { label: {}, items: {}, value: {}, multiple: { type: Boolean }, isOpen: { state: true } };

  constructor() {
    super();
    /** What the button shows. @type {unknown} */
    this.label = "";
    /** What the list is called; by default the label. @type {string} */
    this.name = "";
    /** @type {Item[]} */
    this.items = [];
    /** @type {string | null | string[]} */
    this.value = null;
    this.multiple = false;
    /** Whether what was typed can be chosen, if no item has it. */
    this.creatable = false;
    this.isOpen = false;
  }

  listId = `choices-${++menus}`;
  typed = "";
  active = 0;
  /** @type {Set<string>} */
  chosen = new Set();
  /** Where the focus was when the list was opened. @type {HTMLElement | null} */
  origin = null;

  connectedCallback() {
    super.connectedCallback();
    for (const type of ["scroll", "resize"]) this.listen(window, type, () => this.isOpen && this.place());
  }

  /** Keep the active item where other items come and go: Enter takes what its reader has seen. @param {Map<string, any>} changed */
  willUpdate(changed) {
    const before = changed.get("items");
    if (!this.isOpen || !before) return;
    const active = this.matching(before)[this.active]?.value;
    const index = this.shown.findIndex(({ value }) => value === active);
    if (index >= 0) this.active = index;
  }

  updated() {
    if (this.isOpen && this.panel.matches(":popover-open")) this.place(); // other items have another width
  }

  /** Open the list. The focus returns to where it is now. */
  async open() {
    if (this.isOpen) return;
    this.origin = /** @type {HTMLElement | null} */ (document.activeElement);
    this.chosen = new Set(typeof this.value === "string" ? [this.value] : this.value);
    Object.assign(this, { typed: "", isOpen: true });
    this.active = Math.max(0, this.shown.findIndex(({ value }) => this.chosen.has(value)));
    await this.updateComplete;
    const panel = this.panel;
    panel.showPopover();
    this.place();
    panel.querySelector("input")?.focus();
    this.showActive();
  }

  get panel() {
    return /** @type {HTMLElement} */ (this.querySelector(".choices"));
  }

  /** The items that match what was typed. @returns {Item[]} */
  get shown() {
    return this.matching(this.items);
  }

  /** @param {Item[]} items */
  matching(items) {
    const words = folded(this.typed).split(/\s+/).filter(Boolean);
    const found = items.filter(({ text, detail = "", value }) => {
      const all = folded(`${text} ${detail} ${value}`);
      return words.every((word) => all.includes(word));
    });
    const typed = this.typed.trim();
    if (!this.creatable || !typed || items.some(({ value }) => value === typed)) return found;
    return [...found, { value: typed, text: t("choice.create", { text: typed }) }];
  }

  /** Put the list below its button, or above it where there is more room. */
  place() {
    const button = /** @type {HTMLElement} */ (this.firstElementChild).getBoundingClientRect();
    const anchor = button.width ? button : (this.parentElement?.getBoundingClientRect() ?? button);
    const { style } = this.panel;
    const below = innerHeight - anchor.bottom;
    const isBelow = below >= anchor.top || below > 320;
    style.setProperty("max-height", `${(isBelow ? below : anchor.top) - GAP - EDGE}px`);
    const { width, height } = this.panel.getBoundingClientRect();
    const isRtl = getComputedStyle(this).direction === "rtl";
    const left = isRtl ? anchor.right - width : anchor.left;
    style.setProperty("left", `${Math.max(EDGE, Math.min(left, innerWidth - width - EDGE))}px`);
    style.setProperty("top", `${isBelow ? anchor.bottom + GAP : anchor.top - GAP - height}px`);
  }

  render() {
    return html`<button type="button" class="choice" aria-haspopup="listbox" aria-expanded=${this.isOpen} aria-label=${this.name || nothing} @click=${() => (this.isOpen ? this.close() : this.open())}>
        ${this.label}
      </button>
      ${this.isOpen ? this.list() : nothing}`;
  }

  list() {
    const { shown } = this;
    this.active = Math.min(this.active, Math.max(0, shown.length - 1));
    const id = (/** @type {number} */ index) => `${this.listId}-${index}`;
    const name = this.name || (typeof this.label === "string" ? this.label : t("choice.list"));
    return html`<div class="choices" popover="manual" @focusout=${this.leave} @mousedown=${keepFocus}>
      <input
        role="combobox"
        aria-expanded="true"
        aria-autocomplete="list"
        aria-controls=${this.listId}
        aria-label=${name}
        aria-activedescendant=${shown.length ? id(this.active) : nothing}
        placeholder=${t("choice.filter")}
        autocomplete="off"
        spellcheck="false"
        .value=${this.typed}
        @input=${(/** @type {any} */ event) => this.filter(event.target.value)}
        @keydown=${this.press}
      />
      <ul id=${this.listId} role="listbox" aria-label=${name} aria-multiselectable=${this.multiple ? "true" : nothing}>
        ${shown.map(
          (item, index) =>
            html`<li
              id=${id(index)}
              role="option"
              aria-selected=${this.chosen.has(item.value)}
              class=${index === this.active ? "active" : nothing}
              @pointermove=${() => this.active !== index && this.set({ active: index })}
              @click=${() => this.take(item)}
            >
              ${item.mark ? html`<span class="mark" aria-hidden="true">${item.mark}</span>` : nothing}
              <bdi>${item.text}</bdi>
              ${item.detail ? html`<span class="muted">${item.detail}</span>` : nothing} ${item.digit ? html`<kbd>${item.digit}</kbd>` : nothing}
            </li>`,
        )}
      </ul>
      ${shown.length ? nothing : html`<p class="muted" role="status">${t("choice.none")}</p>`}
      ${this.multiple ? html`<button type="button" class="primary" @click=${() => this.close(true)}>${t("choice.apply")} <kbd>Ctrl Enter</kbd></button>` : nothing}
    </div>`;
  }

  /** @param {string} typed */
  filter(typed) {
    this.set({ typed, active: 0 });
  }

  /** @param {KeyboardEvent} event */
  press(event) {
    const { key } = event;
    if (event.isComposing) return;
    const byDigit = this.typed || hasModifier(event) ? undefined : this.items.find(({ digit }) => digit && /^(?:Digit|Numpad)(\d)$/.exec(event.code)?.[1] === String(digit));
    if (byDigit) this.take(byDigit);
    else if (key === "Escape") this.close();
    else if (key === "Enter" && this.multiple && (event.ctrlKey || event.metaKey)) this.close(true);
    else if (key === "Enter" && this.shown[this.active]) this.take(this.shown[this.active]);
    else if (key === "ArrowDown" || key === "ArrowUp") this.move(key === "ArrowDown" ? 1 : -1);
    else if (key !== "Enter") return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {number} step */
  async move(step) {
    const count = this.shown.length;
    if (!count) return;
    this.set({ active: (this.active + step + count) % count });
    await this.updateComplete;
    this.showActive();
  }

  showActive() {
    this.querySelector(".choices .active")?.scrollIntoView({ block: "nearest" });
  }

  /** @param {Item} item */
  take({ value }) {
    if (!this.multiple) {
      this.close();
      this.dispatchEvent(new CustomEvent("choose", { detail: value }));
      return;
    }
    if (!this.chosen.delete(value)) this.chosen.add(value);
    this.filter("");
  }

  /** Close the list when the focus goes elsewhere; not to another window. @param {FocusEvent} event */
  leave({ relatedTarget }) {
    const stays = this.contains(document.activeElement) || (relatedTarget instanceof Node && this.contains(relatedTarget));
    if (!stays) this.close(true, false);
  }

  /**
   * @param {boolean} [applies] whether the chosen values count, with `multiple`
   * @param {boolean} [returns] whether the focus returns
   */
  close(applies = false, returns = true) {
    if (!this.isOpen) return;
    this.isOpen = false;
    const button = /** @type {HTMLElement} */ (this.firstElementChild);
    if (returns) (this.origin?.isConnected && this.origin !== document.body ? this.origin : button).focus();
    const before = new Set(this.value);
    const isChanged = this.chosen.size !== before.size || [...this.chosen].some((each) => !before.has(each));
    if (applies && this.multiple && isChanged) this.dispatchEvent(new CustomEvent("choose", { detail: [...this.chosen] }));
  }
}

customElements.define("choice-menu", ChoiceMenu);
