/** The sign-in: a token or JWT is pasted once, and exchanged for a cookie that no script can read. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { explain, request } from "../lib/api.js";
import { Element, html, placeOf } from "../lib/page.js";
import { chooseLanguage, language, LANGUAGES, t } from "../lib/i18n.js";

class SignInPage extends Element {
  busy = false;
  failure = "";

  connectedCallback() {
    super.connectedCallback();
    document.title = `${t("sign_in.title")} – ${t("app.name")}`;
  }

  firstUpdated() {
    this.querySelector("input")?.focus();
  }

  render() {
    return html`
      <form class="card" @submit=${this.submit}>
        <h1>${t("app.name")}</h1>
        <p class="muted">${t("sign_in.explanation")}</p>
        <label for="token">${t("sign_in.token")}</label>
        <input
          id="token"
          name="token"
          type="password"
          autocomplete="off"
          spellcheck="false"
          required
          aria-describedby=${this.failure ? "sign-in-failure" : nothing}
          aria-invalid=${this.failure ? "true" : "false"}
        />
        ${this.failure ? html`<p id="sign-in-failure" class="error" role="alert">${this.failure}</p>` : nothing}
        <button class="primary" ?disabled=${this.busy}>${t("sign_in.submit")}</button>
        <p class="languages">
          ${Object.entries(LANGUAGES).map(
            ([code, name]) =>
              html`<button type="button" class="plain" lang=${code} aria-pressed=${code === language} @click=${() => chooseLanguage(code)}>
                ${name}
              </button>`,
          )}
        </p>
      </form>
    `;
  }

  /** @param {SubmitEvent} event */
  async submit(event) {
    event.preventDefault();
    const token = String(new FormData(/** @type {HTMLFormElement} */ (event.target)).get("token"));
    this.set({ busy: true, failure: "" });
    try {
      await request("/console/session", { method: "POST", body: { token } });
      location.replace(this.next());
    } catch (failure) {
      this.set({ busy: false, failure: explain(failure) });
    }
  }

  /** Return the page that led here: one of the console's own. */
  next() {
    const next = new URLSearchParams(location.search).get("next") ?? "";
    if (!URL.canParse(next, location.origin)) return "/console/";
    const url = new URL(next, location.origin);
    const page = url.origin === location.origin && placeOf(url.pathname)?.page;
    return page && page !== "sign-in" ? url.pathname + url.search : "/console/";
  }
}

customElements.define("sign-in-page", SignInPage);
