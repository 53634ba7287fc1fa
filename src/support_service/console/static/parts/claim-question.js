/** The question before a case is taken from the agent who has it. */

import { Element, html } from "../lib/page.js";
import { t } from "../lib/i18n.js";

class ClaimQuestion extends Element {
  agent = "";

  firstUpdated() {
    this.querySelector("dialog")?.showModal();
  }

  render() {
    return html`
      <dialog aria-labelledby="claim-title" aria-describedby="claim-text" @close=${this.close}>
        <h2 id="claim-title">${t("claim.title")}</h2>
        <p id="claim-text" dir="auto">${t("case.claimed_first", { agent: this.agent })}</p>
        <form method="dialog" class="row end">
          <button value="no" autofocus>${t("app.cancel")}</button>
          <button value="yes" class="primary">${t("claim.confirm")}</button>
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

customElements.define("claim-question", ClaimQuestion);
