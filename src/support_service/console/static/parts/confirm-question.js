/** A question before something that can't be undone, or that others notice. */

import { Element, html } from "../lib/page.js";
import { t } from "../lib/i18n.js";

/** @typedef {{title: string, text: string, yes: string}} Question */

class ConfirmQuestion extends Element {
  /** @type {Question} */
  question = { title: "", text: "", yes: "" };

  firstUpdated() {
    this.querySelector("dialog")?.showModal();
  }

  render() {
    const { title, text, yes } = this.question;
    return html`
      <dialog aria-labelledby="confirm-title" aria-describedby="confirm-text" @close=${this.close}>
        <h2 id="confirm-title">${title}</h2>
        <p id="confirm-text" dir="auto">${text}</p>
        <form method="dialog" class="row end">
          <button value="no" autofocus>${t("app.cancel")}</button>
          <button value="yes" class="primary">${yes}</button>
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
