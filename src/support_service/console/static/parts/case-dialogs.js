/** The questions before a case is snoozed, merged or split. Loaded when the first one is asked. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { explain, query, request } from "../lib/api.js";
import { dateAndTime, t, word } from "../lib/i18n.js";
import { Element, html } from "../lib/page.js";
import { snoozeTimes } from "./snooze-times.js";

const SEARCH_PAUSE = 250; // ms without a key after which a search starts
const MOST_FOUND = 8;

/**
 * Dispatches `answer` with what was decided, or null. `kind` says what is asked.
 *
 * @typedef {{until: string} | {into: string, subject: string} | {messageIds: string[], subject: string}} Answer
 */
class CaseDialog extends Element {
  /** @type {"snooze" | "merge" | "split"} */
  kind = "snooze";
  /** @type {any} the case */
  item = null;
  /** @type {any[]} other cases of the customer */
  others = [];
  /** @type {any[] | null} */
  found = null;
  failure = "";
  /** @type {Answer | null} */
  decided = null;

  firstUpdated() {
    this.querySelector("dialog")?.showModal();
  }

  render() {
    return html`<dialog class="case-dialog" aria-labelledby="case-dialog-title" @close=${() => this.dispatchEvent(new CustomEvent("answer", { detail: this.decided }))}>
      <h2 id="case-dialog-title">${t(`${this.kind}.title`)}</h2>
      ${this.kind === "snooze" ? this.snooze() : this.kind === "merge" ? this.merge() : this.split()}
    </dialog>`;
  }

  /** @param {Answer} decided */
  decide(decided) {
    this.decided = decided;
    this.querySelector("dialog")?.close();
  }

  cancel() {
    return html`<button type="button" @click=${() => this.querySelector("dialog")?.close()}>${t("app.cancel")}</button>`;
  }

  snooze() {
    const choose = (/** @type {Date} */ at) => this.decide({ until: at.toISOString() });
    const given = (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      const at = new Date(String(new FormData(/** @type {HTMLFormElement} */ (event.target)).get("at")));
      if (at.getTime() > Date.now()) choose(at);
      else this.set({ failure: t("snooze.past") });
    };
    return html`
      <ul class="plain-list">
        ${snoozeTimes(new Date()).map(
          ({ name, at }, index) => html`<li><button type="button" ?autofocus=${!index} @click=${() => choose(at)}>${t(name)} <span class="muted">${dateAndTime(at)}</span></button></li>`,
        )}
      </ul>
      <form @submit=${given}>
        <label>${t("snooze.at")} <input name="at" type="datetime-local" required min=${localTime(new Date())} /></label>
        ${this.error()}
        <p class="row end">${this.cancel()}<button class="primary">${t("snooze.submit")}</button></p>
      </form>
    `;
  }

  merge() {
    const shown = this.found ?? this.others;
    return html`
      <p>${t("merge.text")}</p>
      <form @submit=${(/** @type {Event} */ event) => event.preventDefault()}>
        <label>${t("merge.search")} <input name="q" type="search" autocomplete="off" autofocus @input=${(/** @type {any} */ event) => this.search(event.target.value)} /></label>
        ${this.error()}
        <ul class="plain-list" aria-label=${t("merge.cases")}>
          ${shown
            .filter(({ id, status }) => id !== this.item.id && status !== "closed")
            .slice(0, MOST_FOUND)
            .map(
              ({ id, subject, status, customerName, customerId }) => html`<li>
                <button type="button" @click=${() => this.decide({ into: id, subject })}>
                  <bdi class="subject">${subject}</bdi> <span class="muted"><bdi>${customerName ?? customerId ?? ""}</bdi> · ${word("status", status)}</span>
                </button>
              </li>`,
            )}
        </ul>
        ${this.found && !this.found.length ? html`<p class="muted" role="status">${t("queue.nothing_found")}</p>` : nothing}
        <p class="row end">${this.cancel()}</p>
      </form>
    `;
  }

  typed = "";

  /** @param {string} typed a text, or the id or address of a case */
  search(typed) {
    this.typed = typed;
    this.later(SEARCH_PAUSE, async () => {
      try {
        const found = typed.trim() ? await findCases(typed) : null;
        if (typed === this.typed) this.set({ found, failure: "" });
      } catch (failure) {
        if (typed === this.typed) this.set({ failure: explain(failure) });
      }
    });
  }

  split() {
    const submit = (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      const given = new FormData(/** @type {HTMLFormElement} */ (event.target));
      const messageIds = given.getAll("message").map(String);
      if (messageIds.length) this.decide({ messageIds, subject: String(given.get("subject")) });
      else this.set({ failure: t("split.choose") });
    };
    const own = this.item.messages.filter((/** @type {any} */ each) => (each.ticketId ?? this.item.id) === this.item.id);
    return html`
      <p>${t("split.text")}</p>
      <form @submit=${submit}>
        <label>${t("split.subject")} <input name="subject" required maxlength="500" autocomplete="off" autofocus .value=${this.item.subject} /></label>
        <fieldset>
          <legend>${t("split.messages")}</legend>
          ${own.map(
            (/** @type {any} */ { id, message, authorType, createdAt }) => html`<label class="check"
              ><input type="checkbox" name="message" value=${id} /> <span><span class="muted">${word("author", authorType)}, ${dateAndTime(createdAt)}</span> <bdi class="excerpt">${message}</bdi></span></label
            >`,
          )}
        </fieldset>
        ${this.error()}
        <p class="row end">${this.cancel()}<button class="primary">${t("split.submit")}</button></p>
      </form>
    `;
  }

  error() {
    return this.failure ? html`<p class="error" role="alert">${this.failure}</p>` : nothing;
  }
}

/** Return the cases that a text, or the id or address of a case, stands for. @param {string} typed @returns {Promise<any[]>} */
async function findCases(typed) {
  const [id] = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/.exec(typed) ?? [];
  if (id) return [(await request(`/support/cases/${id}?messagesLimit=1`)).data];
  return (await request(`/support/cases?${query({ q: typed, status: "open,pending,resolved", limit: MOST_FOUND + 1 })}`)).data.items;
}

/** Return a time as a field for times has it. @param {Date} at */
function localTime(at) {
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

customElements.define("case-dialog", CaseDialog);
