/** The base of the console's elements, and the keys of pages. Light DOM: one style sheet and the browser's own tools apply. */

import { LitElement } from "../vendor/lit-element/lit-element.js";

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

  disconnectedCallback() {
    super.disconnectedCallback();
    for (const stop of this.stops.splice(0)) stop();
  }

  /** @type {(() => void)[]} */
  stops = [];
}

/** @param {Event} event */
function isWriting(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  return Boolean(target.closest?.("input:not([type=checkbox], [type=radio], [type=file]), textarea, select, [contenteditable]"));
}

/**
 * Return a handler of keydown events that calls the action of a key, while no field has the focus and no dialog is open.
 * @param {Record<string, (event: KeyboardEvent) => void>} actions
 */
export function onKeys(actions) {
  return (/** @type {KeyboardEvent} */ event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isWriting(event)) return;
    if (document.querySelector("dialog[open]")) return;
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action(event);
  };
}
