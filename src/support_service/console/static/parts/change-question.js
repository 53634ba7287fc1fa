/** The question before an answer is sent although the case has changed since the draft began. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { Element, html, unlessTyping } from "../lib/page.js";
import { clock, t, word } from "../lib/i18n.js";

class ChangeQuestion extends Element {
  /** @type {any[]} messages that came meanwhile */
  messages = [];
  /** @type {string[]} other changes in words */
  changes = [];
  unlessTyping = unlessTyping();

  firstUpdated() {
    this.querySelector("dialog")?.showModal();
  }

  render() {
    return html`
      <dialog aria-labelledby="question-title" aria-describedby="question-text" @close=${this.close} @keydown=${this.unlessTyping} @keyup=${this.unlessTyping}>
        <h2 id="question-title">${t("question.title")}</h2>
        <p id="question-text">${this.messages.length ? t("question.messages", { n: this.messages.length }) : t("question.changed")}</p>
        ${this.changes.length ? html`<ul>${this.changes.map((change) => html`<li>${change}</li>`)}</ul>` : nothing}
        <ol class="new-messages">
          ${this.messages.map(
            (message) =>
              html`<li class="message" data-author=${message.authorType} ?data-note=${message.visibility === "internal"}>
                <p class="meta"><strong>${word("author", message.authorType)}</strong> <time datetime=${message.createdAt}>${clock(message.createdAt)}</time></p>
                <div class="text" dir="auto">${message.message}</div>
              </li>`,
          )}
        </ol>
        <form method="dialog" class="row end">
          <button value="edit" class="primary" autofocus>${t("question.edit")}</button>
          <button value="send">${t("question.send")}</button>
        </form>
      </dialog>
    `;
  }

  /** @param {Event} event */
  close(event) {
    const { returnValue } = /** @type {HTMLDialogElement} */ (event.target);
    this.dispatchEvent(new CustomEvent("answer", { detail: returnValue === "send" }));
  }
}

/**
 * Return in words which fields of a case differ.
 * @param {any} before
 * @param {any} after
 */
export function describeChanges(before, after) {
  return ["status", "priority", "assignedAgentId", "team", "subject"]
    .filter((name) => before[name] !== after[name])
    .map((name) => {
      const values = [before[name], after[name]].map((value) => (value === null ? "–" : word(name, value)));
      return `${word("field", name)}: ${values.join(" → ")}`;
    });
}

customElements.define("change-question", ChangeQuestion);
