/** A question before something that can't be undone, or that others notice. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { t } from "../lib/i18n.js";
import { Element, html, unlessTyping } from "../lib/page.js";

/** @typedef {{title: string, text: string, yes?: string, no?: string}} Question `no` is for a question where it is the better answer */

class ConfirmQuestion extends Element {
  /** @type {Question} */
  question = { title: "", text: "" };
  unlessTyping = unlessTyping();

  firstUpdated() {
    this.querySelector("dialog")?.showModal();
  }

  render() {
    const { title, text, yes, no } = this.question;
    return html`
      <dialog aria-labelledby="confirm-title" aria-describedby="confirm-text" @close=${this.close} @keydown=${this.unlessTyping} @keyup=${this.unlessTyping}>
        <h2 id="confirm-title">${title}</h2>
        <p id="confirm-text" dir="auto">${text}</p>
        <form method="dialog" class="row end">
          <button value="no" class=${no ? "primary" : nothing} autofocus>${no ?? t("app.cancel")}</button>
          ${yes ? html`<button value="yes" class=${no ? nothing : "primary"}>${yes}</button>` : nothing}
        </form>
      </dialog>
    `;
  }

  /** @param {Event} event */
  close(event) {
    const { returnValue } = /** @type {HTMLDialogElement} */ (event.target);
    this.dispatchEvent(new CustomEvent("answer", { detail: returnValue === "yes" }));
  }
}

customElements.define("confirm-question", ConfirmQuestion);
