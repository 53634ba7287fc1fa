/**
 * What pages are made of: the base of the console's elements, keys, and addresses.
 *
 * Elements are in light DOM: one style sheet and the browser's own tools apply.
 */

import { html as template, LitElement, nothing } from "../vendor/lit-element/lit-element.js";
import { text } from "./i18n.js";

/** @typedef {{page: string, id: string}} Place */

const PLACES = /** @type {[RegExp, string][]} */ ([
  [/^\/console\/?$/, "queue"],
  [/^\/console\/cases\/([^/]+)$/, "case"],
  [/^\/console\/customers\/([^/]+)$/, "customer"],
  [/^\/console\/oncall$/, "oncall"],
  [/^\/console\/audit$/, "audit"],
  [/^\/console\/team$/, "team"],
  [/^\/console\/(?:sign-in|login|callback)$/, "sign-in"], // the last two if a sign-in has failed
]);
const MOVED = "console:moved";
const HELD = ["Enter", "Tab", "Escape", "Backspace", "ArrowUp", "ArrowDown"]; // besides characters
const CONTROLS = "a[href], button:enabled, input:enabled, select:enabled, textarea:enabled";

/**
 * The queue as it was left: the address with view, filters and search, the case that was opened from it, and the list with
 * the ids of its cases in their order.
 * @type {{address: string, active: string, ids: string[], list: Partial<import("./case-list.js").CaseList> | null}}
 */
export const queueLeft = { address: "/console/", active: "", ids: [], list: null };

/** Whether pages have columns, as in styles/*.css. */
export const wide = matchMedia("(min-width: 901px)");

const PROPERTY = /\s\.\w+=["']?$/; // end of a template's text before the value of an element's property

/**
 * Return a template, as Lit's `html` does. Any value of JSON in it is shown as text: Lit takes some objects for templates or nodes, and fails.
 * @param {TemplateStringsArray} strings
 * @param {unknown[]} values
 */
export function html(strings, ...values) {
  return template(strings, ...values.map((value, index) => (typeof value === "object" ? shown(value, strings[index]) : value)));
}

/**
 * @param {any} value
 * @param {string} before the text of the template before it
 */
function shown(value, before) {
  if (isTemplate(value) || PROPERTY.test(before)) return value;
  if (Array.isArray(value) && value.some(isTemplate)) return value.map((each) => (typeof each !== "object" || isTemplate(each) ? each : text(each)));
  return text(value);
}

/** Whether a value is a template, a directive or `nothing`: JSON has no lists with members, functions and symbols. @param {any} value */
function isTemplate(value) {
  if (value === nothing) return true;
  return Array.isArray(value?.strings) ? "raw" in value.strings : typeof value?._$litDirective$ === "function";
}

export class Element extends LitElement {
  createRenderRoot() {
    return this;
  }

  /**
   * Change fields and render.
   * @param {Record<string, any>} changes
   */
  set(changes) {
    Object.assign(this, changes);
    this.requestUpdate();
  }

  /**
   * Listen until the element is removed.
   * @param {EventTarget} target
   * @param {string} type
   * @param {(event: any) => void} handler
   */
  listen(target, type, handler) {
    this.stops.push(() => target.removeEventListener(type, handler));
    target.addEventListener(type, handler);
  }

  /**
   * Call a function every so many milliseconds until the element is removed.
   * @param {number} interval
   * @param {() => void} action
   */
  every(interval, action) {
    const timer = setInterval(action, interval);
    this.stops.push(() => clearInterval(timer));
  }

  /**
   * Call a function after a pause, unless it is wanted again, or the element is removed, before.
   * @param {number} pause ms
   * @param {() => void} action
   */
  later(pause, action) {
    clearTimeout(this.timer);
    this.timer = setTimeout(action, pause);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    clearTimeout(this.timer);
    for (const stop of this.stops.splice(0)) stop();
  }

  /** @type {(() => void)[]} */
  stops = [];
  /** Of `later`. @type {ReturnType<typeof setTimeout> | undefined} */
  timer;
}

/** @param {Event} event */
function isWriting(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  return Boolean(target.closest?.("input:not([type=checkbox], [type=radio], [type=file]), textarea, select, [contenteditable]"));
}

/** Whether a key is for the browser, or a shortcut. @param {KeyboardEvent} event */
export function hasModifier({ ctrlKey, metaKey, altKey }) {
  return ctrlKey || metaKey || altKey;
}

/**
 * Return a handler of keydown events that calls the action of a key, while no field has the focus and no dialog is open.
 * @param {Record<string, (event: KeyboardEvent) => void>} actions
 */
export function onKeys(actions) {
  return (/** @type {KeyboardEvent} */ event) => {
    if (event.defaultPrevented || hasModifier(event) || isWriting(event)) return;
    if (document.querySelector("dialog[open]")) return;
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action(event);
  };
}

/**
 * Open what takes a moment. Keys that are pressed meanwhile are given to what has the focus then, and not to the page.
 * They are forgotten if nothing was opened. Return the text of the keys that are for what was opened, but came too late for it.
 * @param {() => Promise<unknown>} opens answers `false` if nothing was opened
 * @param {() => boolean} [isFor] whether keys are for what is being opened
 * @param {KeyboardEvent} [first] the key that is held before all others
 */
export async function holdingKeys(opens, isFor = () => true, first = undefined) {
  const release = holdKeys(isFor, first);
  let isOpened = false;
  let rest;
  try {
    isOpened = (await opens()) !== false;
  } finally {
    rest = release(isOpened);
  }
  return isOpened ? textOf(await rest) : "";
}

/** The text that keys write, up to the first one that leaves the field. @param {KeyboardEvent[]} keys */
function textOf(keys) {
  const end = keys.findIndex((each) => each.key === "Escape" || hasModifier(each));
  return (end < 0 ? keys : keys.slice(0, end)).map(({ key }) => textOfKey(key)).join("");
}

/** @param {string} key */
function textOfKey(key) {
  return key === "Enter" ? "\n" : key.length === 1 ? key : "";
}

let holds = 0;
/** The holds that keys come from. @type {WeakMap<Event, number>} */
const givenBy = new WeakMap();

/**
 * Hold all keys. Return a function that gives them back; keys that are pressed meanwhile come after them. A key that one
 * hold gives back may be for what a later one opens: that one holds it again, and its keys pass the earlier ones.
 * @param {() => boolean} isFor
 * @param {KeyboardEvent} [first]
 */
function holdKeys(isFor, first) {
  const own = ++holds;
  /** @type {KeyboardEvent[]} */
  const held = first ? [first] : [];
  const hold = (/** @type {KeyboardEvent} */ event) => {
    const isShortcut = hasModifier(event) && event.key !== "Enter"; // of the browser
    if (Number(givenBy.get(event)) >= own || event.isComposing || isShortcut || !isFor() || !(event.key.length === 1 || HELD.includes(event.key))) return;
    held.push(event);
    event.preventDefault();
    event.stopImmediatePropagation();
  };
  addEventListener("keydown", hold, true); // before all handlers of the document
  return async (/** @type {boolean} */ isWanted) => {
    while (held.length && isWanted) {
      await new Promise((resume) => setTimeout(resume)); // what the key before it has opened is there
      if (!isFor()) break;
      const next = /** @type {KeyboardEvent} */ (held.shift());
      const given = new KeyboardEvent("keydown", next);
      givenBy.set(given, own);
      press(given);
    }
    removeEventListener("keydown", hold, true);
    return held;
  };
}

/** Press a key, and do what a browser does by default. @param {KeyboardEvent} event */
function press(event) {
  const target = /** @type {HTMLElement} */ (document.activeElement ?? document.body);
  if (!target.dispatchEvent(event)) return;
  const { key, shiftKey } = event;
  const dialog = target.closest("dialog");
  const field = target instanceof HTMLTextAreaElement || (target instanceof HTMLInputElement && target.selectionStart !== null) ? target : null;
  if (key === "Escape") dialog?.close();
  else if (key === "Tab" && dialog) {
    const all = /** @type {HTMLElement[]} */ ([...dialog.querySelectorAll(CONTROLS)]);
    all.at((all.indexOf(target) + (shiftKey ? -1 : 1)) % all.length)?.focus();
  } else if (field && key === "Enter" && field instanceof HTMLInputElement) field.form?.requestSubmit();
  else if (field && !hasModifier(event)) edit(field, key);
  else if (!field && (key === "Enter" || key === " ")) target.click();
}

/** @param {HTMLInputElement | HTMLTextAreaElement} field @param {string} key */
function edit(field, key) {
  const text = textOfKey(key);
  if (field.readOnly || (!text && key !== "Backspace")) return;
  const end = Number(field.selectionEnd);
  const start = Number(field.selectionStart);
  field.setRangeText(text, !text && start === end ? Math.max(0, start - 1) : start, end, "end");
  field.dispatchEvent(new InputEvent("input", { bubbles: true }));
}

/**
 * Return a handler of the keys of a dialog that opened while its reader may have been typing: a Space or Enter after a
 * letter presses no button.
 */
export function unlessTyping() {
  let isTyping = false;
  return (/** @type {KeyboardEvent} */ event) => {
    if (event.key === " " || event.key === "Enter") {
      if (isTyping) event.preventDefault();
      if (event.type === "keyup") isTyping = false; // a second one is meant
    } else if (event.key.length === 1 && event.type === "keydown") isTyping = true;
    else if (event.key === "Tab") isTyping = false;
  };
}

const SEQUENCE = 1_500; // ms between the two keys of a sequence

/**
 * Return a handler of keydown events, for the capture phase, that calls the action of the key after `first`. Other
 * handlers do not get that key.
 * @param {string} first
 * @param {Record<string, () => void>} actions
 */
export function onSequence(first, actions) {
  let until = 0;
  const second = onKeys(Object.fromEntries(Object.entries(actions).map(([key, action]) => [key, () => action()])));
  const begin = onKeys({ [first]: (event) => (until = event.timeStamp + SEQUENCE) });
  return (/** @type {KeyboardEvent} */ event) => {
    if (event.timeStamp < until) {
      until = 0;
      second(event);
    } else begin(event);
  };
}

/** Close the open menus that a click was not in; with none, all of them. The focus stays on their buttons. @param {EventTarget | null} clicked */
export function closeMenus(clicked = null) {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (clicked instanceof Node && menu.contains(clicked)) continue;
    if (menu.contains(document.activeElement)) menu.querySelector("summary")?.focus();
    menu.removeAttribute("open");
  }
}

/**
 * Return the page that a path names, or null.
 * @param {string} path
 * @returns {Place | null}
 */
export function placeOf(path) {
  for (const [pattern, page] of PLACES) {
    const found = pattern.exec(path);
    if (found) return { page, id: decode(found[1] ?? "") };
  }
  return null;
}

/**
 * Show another address. `replace` leaves no entry in the history.
 * @param {string} url
 * @param {{replace?: boolean}} [options]
 */
export function go(url, { replace = false } = {}) {
  if (replace) history.replaceState(null, "", url);
  else history.pushState(null, "", url);
  dispatchEvent(new Event(MOVED));
}

/**
 * Call a function whenever the address changes, and handle clicks on links to pages.
 * @param {() => void} moved
 */
export function watchAddress(moved) {
  addEventListener("popstate", moved);
  addEventListener(MOVED, moved);
  document.addEventListener("click", (event) => {
    const link = event.target instanceof globalThis.Element ? event.target.closest("a") : null;
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
    if (link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (!placeOf(link.pathname)) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
}

/** @param {string} segment */
function decode(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}
