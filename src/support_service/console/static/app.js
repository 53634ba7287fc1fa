/** The console: the bar at the top, and the page that the address names. */

import { nothing } from "./vendor/lit-element/lit-element.js";
import { agent, can, explain, hasSession, isOpen, leaveForSignIn, loadMe, logOut, me, Problem, request, workAs } from "./lib/api.js";
import { closeMenus, Element, go, html, onKeys, placeOf, watchAddress } from "./lib/page.js";
import { chooseLanguage, clockWithSeconds, language, LANGUAGES, loadTexts, t, word } from "./lib/i18n.js";
import { live } from "./lib/live.js";
import { forgetDrafts } from "./lib/storage.js";

const PAGES = {
  queue: () => import("./pages/queue.js"),
  case: () => import("./pages/case.js"),
  customer: () => import("./pages/customer.js"),
  oncall: () => import("./pages/oncall.js"),
  audit: () => import("./pages/audit.js"),
  "sign-in": () => import("./pages/sign-in.js"),
};

/** @param {import("./lib/page.js").Place | null} place */
async function loadPage(place) {
  await PAGES[/** @type {keyof typeof PAGES} */ (place?.page)]?.();
}

/** Wait for all, so that the texts that describe a failure are there. Throws the first failure. @param {unknown[]} promises */
async function allDone(promises) {
  const failed = (await Promise.allSettled(promises)).find((each) => each.status === "rejected");
  if (failed?.status === "rejected") throw failed.reason;
}

class SupportConsole extends Element {
  /** @type {import("./lib/page.js").Place | null} */
  place = null;
  /** @type {"loading" | "ready" | "failed"} */
  state = "loading";
  help = false;
  /** What is shown in place of the page. @type {unknown} */
  failure = nothing;

  connectedCallback() {
    super.connectedCallback();
    watchAddress(() => this.show());
    this.listen(document, "keydown", onKeys({ "?": () => this.openHelp() }));
    this.listen(document, "keydown", ({ key }) => key === "Escape" && closeMenus());
    this.listen(document, "click", ({ target }) => closeMenus(target));
    this.listen(live, "state", () => this.requestUpdate());
    this.open();
  }

  async open() {
    this.set({ place: placeOf(location.pathname) });
    try {
      const isSignIn = this.place?.page === "sign-in";
      await allDone([loadTexts(), loadPage(this.place), isSignIn ? null : loadMe()]);
      if (!isSignIn) live.start();
      this.set({ state: "ready" });
    } catch (failure) {
      this.set({ state: "failed", failure: await this.describe(failure) });
    }
  }

  /** Return why nothing can be shown, and for on-call what can be done while the database is down. @param {unknown} failure */
  async describe(failure) {
    const isKnown = failure instanceof Problem && failure.code !== "no_answer";
    const text = html`<p role="alert">${isKnown ? explain(failure) : t("app.failed")}</p>`;
    if (!isKnown || failure.code !== "database_unavailable" || this.place?.page !== "oncall") return text;
    const { databaseDown } = await import("./parts/database-down.js");
    return html`${text}<div class="page">${databaseDown()}</div>`;
  }

  /** Show the page that the address names, once its module is there: an element that is defined later loses its properties. */
  async show() {
    const { pathname } = location;
    const place = placeOf(pathname);
    await loadPage(place);
    if (pathname === location.pathname) this.set({ place });
  }

  async openHelp() {
    await import("./parts/help.js");
    this.set({ help: true });
  }

  render() {
    if (this.state === "loading") return html`<p class="loading" role="status" aria-label="Loading"></p>`;
    if (this.state === "failed") return html`<main class="notice"><h1>${t("app.name")}</h1>${this.failure}</main>`;
    if (this.place?.page === "sign-in") return html`<main class="sign-in"><sign-in-page></sign-in-page></main>`;
    return html`
      <a class="skip" href="#main" @click=${this.skip}>${t("app.skip")}</a>
      <header class="bar">
        <a class="brand" href="/console/">${t("app.name")}</a>
        <nav aria-label=${t("app.pages")}>
          ${this.link("/console/", "queue", t("queue.title"))}
          ${can("oncall:read") ? this.link("/console/oncall", "oncall", t("oncall.title")) : nothing}
          ${can("audit:read") ? this.link("/console/audit", "audit", t("audit.title")) : nothing}
        </nav>
        <span class="grow"></span>
        ${this.liveState()}
        <button class="plain help" aria-label=${t("help.title")} title=${t("help.title")} @click=${this.openHelp}>?</button>
        ${this.account()}
      </header>
      ${this.page()} ${this.help ? html`<help-dialog @close=${() => this.set({ help: false })}></help-dialog>` : nothing}
    `;
  }

  /**
   * @param {string} path
   * @param {string} page
   * @param {string} text
   */
  link(path, page, text) {
    const current = this.place?.page === page || (page === "queue" && this.place?.page === "case");
    return html`<a href=${path} aria-current=${current ? "page" : nothing}>${text}</a>`;
  }

  liveState() {
    if (live.state === "off") return nothing;
    const isLive = live.state === "live";
    return html`<span class="live" data-state=${live.state} role="status"
      ><span class="dot" aria-hidden="true"></span>${isLive ? t("live.live") : t("live.as_of", { time: clockWithSeconds(live.asOf) })}</span
    >`;
  }

  account() {
    return html`
      <details class="menu account">
        <summary><bdi>${agent()}</bdi></summary>
        <div class="panel">
          <p class="muted">${word("role", me.role)}</p>
          ${isOpen()
            ? html`<form @submit=${this.chooseName}>
                <label>${t("account.work_as")} <input name="name" .value=${agent()} maxlength="36" autocomplete="off" /></label>
                <button>${t("account.use")}</button>
              </form>`
            : nothing}
          <label
            >${t("account.language")}
            <select @change=${(/** @type {any} */ event) => chooseLanguage(event.target.value)}>
              ${Object.entries(LANGUAGES).map(
                ([code, name]) => html`<option value=${code} .selected=${code === language} lang=${code}>${name}</option>`,
              )}
            </select></label
          >
          ${hasSession() ? html`<button class="plain" @click=${this.signOut}>${t("account.sign_out")}</button>` : nothing}
        </div>
      </details>
    `;
  }

  page() {
    const { page = "", id = "" } = this.place ?? {};
    switch (page) {
      case "queue":
        return html`<queue-page></queue-page>`;
      case "case":
        return html`<case-page .caseId=${id}></case-page>`;
      case "customer":
        return html`<customer-page .customerId=${id}></customer-page>`;
      case "oncall":
        return html`<oncall-page></oncall-page>`;
      case "audit":
        return html`<audit-page></audit-page>`;
      default:
        return html`<main id="main" class="notice"><h1>${t("app.no_page")}</h1></main>`;
    }
  }

  /** @param {Event} event */
  skip(event) {
    event.preventDefault();
    const main = document.getElementById("main");
    main?.setAttribute("tabindex", "-1");
    main?.focus();
  }

  /** @param {SubmitEvent} event */
  chooseName(event) {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    workAs(String(new FormData(form).get("name")));
    form.closest("details")?.removeAttribute("open");
    go(location.pathname + location.search, { replace: true });
  }

  async signOut() {
    if (document.documentElement.dataset.provider) {
      forgetDrafts();
      logOut();
      return;
    }
    await request("/console/session", { method: "DELETE" }).catch(() => {});
    forgetDrafts();
    location.assign("/console/sign-in");
    leaveForSignIn();
  }
}

customElements.define("support-console", SupportConsole);
