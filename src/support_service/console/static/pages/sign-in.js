/** The sign-in: at the provider, or by a token or JWT that is pasted once, and exchanged for a cookie that no script can read. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { explain, request } from "../lib/api.js";
import { Element, html, placeOf } from "../lib/page.js";
import { chooseLanguage, language, LANGUAGES, t, word } from "../lib/i18n.js";

/** The provider, if there is one, and why a sign-in there has failed. */
const { provider, failure } = document.documentElement.dataset;

class SignInPage extends Element {
  busy = false;
  failure = "";

  connectedCallback() {
    super.connectedCallback();
    document.title = `${t("sign_in.title")} – ${t("app.name")}`;
    // Loading the address again would repeat the sign-in that has failed.
    if (failure) history.replaceState(null, "", `/console/sign-in?next=${encodeURIComponent(this.next())}`);
  }

  firstUpdated() {
    /** @type {HTMLElement | null} */ (this.querySelector(provider ? "a.primary" : "input"))?.focus();
  }

  render() {
    return html`
      <div class="card">
        <h1>${t("app.name")}</h1>
        ${provider
          ? html`${failure ? html`<p class="error" role="alert">${word("sign_in_failure", failure)}</p>` : nothing}
              <a class="button primary" target="_self" href="/console/login?next=${encodeURIComponent(this.next())}"
                >${t("sign_in.at_provider")}</a
              >
              <details>
                <summary>${t("sign_in.with_token")}</summary>
                ${this.tokenForm()}
              </details>`
          : this.tokenForm()}
        <p class="languages">
          ${Object.entries(LANGUAGES).map(
            ([code, name]) =>
              html`<button type="button" class="plain" lang=${code} aria-pressed=${code === language} @click=${() => chooseLanguage(code)}>
                ${name}
              </button>`,
          )}
        </p>
      </div>
    `;
  }

  tokenForm() {
    return html`
      <form @submit=${this.submit}>
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
