/** The dialog that sets an override: for how long, why, and for `ttl` how many seconds answers are fresh. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { explain, newKey, request } from "../lib/api.js";
import { Element, html } from "../lib/page.js";
import { duration, t, word } from "../lib/i18n.js";

const DURATIONS = [900, 1800, 3600, 7200, 28_800, 86_400]; // seconds
const DEFAULT_DURATION = 1800;
const DEFAULT_TTL = 1800;
const REASON_LENGTH = 200;

/** Dispatches `set` with the new override. */
class OverrideDialog extends Element {
  name = "";
  /** @type {any} the override in effect */
  current = null;
  busy = false;
  failure = "";

  firstUpdated() {
    this.querySelector("dialog")?.showModal();
  }

  render() {
    const isTtl = this.name === "ttl";
    return html`
      <dialog aria-labelledby="override-title" aria-describedby="override-text" @close=${() => this.dispatchEvent(new Event("close"))}>
        <h2 id="override-title">${isTtl ? t("override.ttl_title") : t("override.title", { name: word("source", this.name) })}</h2>
        <p id="override-text">${isTtl ? t("override.ttl_text") : t("override.text")}</p>
        <form class="fields" @submit=${this.submit}>
          ${isTtl
            ? html`<label>${t("override.value")} <input name="value" type="number" min="1" max="86400" required .value=${String(this.current?.value ?? DEFAULT_TTL)} /></label>`
            : nothing}
          <label
            >${t("override.duration")}
            <select name="duration">
              ${DURATIONS.map((each) => html`<option value="PT${each}S" .selected=${each === DEFAULT_DURATION}>${duration(each)}</option>`)}
            </select></label
          >
          <label
            >${isTtl ? t("override.reason_optional") : t("override.reason")}
            <input name="reason" maxlength=${REASON_LENGTH} ?required=${!isTtl} .value=${this.current?.reason ?? ""} autocomplete="off" autofocus
          /></label>
          ${this.failure ? html`<p class="error" role="alert">${this.failure}</p>` : nothing}
          <div class="row end">
            <button type="button" @click=${() => this.querySelector("dialog")?.close()}>${t("app.cancel")}</button>
            <button class="primary" ?disabled=${this.busy}>${isTtl ? t("override.set_ttl") : t("override.set")}</button>
          </div>
        </form>
      </dialog>
    `;
  }

  /** @param {SubmitEvent} event */
  async submit(event) {
    event.preventDefault();
    const form = new FormData(/** @type {HTMLFormElement} */ (event.target));
    const value = form.get("value");
    const body = { duration: form.get("duration"), reason: form.get("reason"), value: value === null ? null : Number(value) };
    const ifMatch = this.current ? `"${this.current.version}"` : null; // another engineer's override is not replaced
    this.set({ busy: true, failure: "" });
    try {
      const { data } = await request(`/support/overrides/${this.name}`, { method: "PUT", body, ifMatch, key: newKey() });
      this.querySelector("dialog")?.close();
      this.dispatchEvent(new CustomEvent("set", { detail: data }));
    } catch (failure) {
      this.set({ failure: explain(failure) });
    }
    this.set({ busy: false });
  }
}

customElements.define("override-dialog", OverrideDialog);
