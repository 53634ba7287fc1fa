/** The console: the bar at the top, and the page that the address names. */

import { nothing } from "./vendor/lit-element/lit-element.js";
import { agent, can, explain, hasSession, isOpen, isUnloaded, leaveForSignIn, loadMe, logOut, me, Problem, request, workAs } from "./lib/api.js";
import { beep, watchAttention } from "./lib/attention.js";
import { closeMenus, Element, go, holdingKeys, html, onKeys, onSequence, placeOf, watchAddress } from "./lib/page.js";
import { chooseLanguage, clockWithSeconds, language, LANGUAGES, loadTexts, t, word } from "./lib/i18n.js";
import { agents, setAway } from "./lib/agents.js";
import { live } from "./lib/live.js";
import { toast } from "./parts/toast.js";
import { forgetDrafts, load, save } from "./lib/storage.js";

const PAGES = {
  queue: () => import("./pages/queue.js"),
  case: () => import("./pages/case.js"),
  customer: () => import("./pages/customer.js"),
  oncall: () => import("./pages/oncall.js"),
  audit: () => import("./pages/audit.js"),
  team: () => import("./pages/team.js"),
  "sign-in": () => import("./pages/sign-in.js"),
};

const THEMES = /** @type {const} */ (["system", "light", "dark"]);

/** The pages besides cases: their key after `g`, and who may see them. @type {[string, string, import("./lib/i18n.js").TextName, () => boolean][]} */
const LINKS = [
  ["team", "t", "team.title", () => me.permissions["reports:read"] === "all" && can("directory:read")],
  ["oncall", "o", "oncall.title", () => can("oncall:read")],
  ["audit", "a", "audit.title", () => can("audit:read")],
];

/** The views that a key after `g` leads to. */
const VIEWS = { m: "mine", u: "unassigned", w: "waiting", r: "due" };

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
  /** @type {"" | "help" | "palette"} */
  dialog = "";
  /** The user's own entry of the directory. @type {import("./lib/agents.js").AgentEntry | undefined} */
  entry;
  /** What is shown in place of everything. @type {unknown} */
  failure = nothing;
  /** Why the page is not shown, if it could not be loaded. */
  unloaded = "";

  connectedCallback() {
    super.connectedCallback();
    watchAddress(() => this.show());
    this.listen(document, "keydown", onKeys({ "?": () => this.openDialog("help") }));
    this.listen(document, "keydown", (event) => this.openPalette(event));
    this.listen(document, "keydown", ({ key }) => key === "Escape" && closeMenus());
    this.listen(document, "click", ({ target }) => closeMenus(target));
    this.listen(live, "state", () => this.requestUpdate());
    this.listen(window, "unhandledrejection", (event) => this.sayUnloaded(event));
    this.open();
  }

  async open() {
    this.set({ place: placeOf(location.pathname) });
    try {
      const isSignIn = this.place?.page === "sign-in";
      await allDone([loadTexts(), loadPage(this.place), isSignIn ? null : loadMe()]);
      if (!isSignIn) this.start();
      this.set({ state: "ready" });
    } catch (failure) {
      this.set({ state: "failed", failure: await this.describe(failure) });
    }
  }

  start() {
    live.start();
    watchAttention();
    const views = Object.entries(VIEWS).map(([key, view]) => [key, () => go(`/console/?view=${view}`)]);
    const pages = this.links().map(([page, key]) => [key, () => go(`/console/${page}`)]);
    document.addEventListener("keydown", onSequence("g", Object.fromEntries([...views, ...pages])), true);
  }

  /** The pages besides cases that the user may see. */
  links() {
    return LINKS.filter(([, , , isAllowed]) => isAllowed());
  }

  /** Return why nothing can be shown, and for on-call what can be done while the database is down. @param {unknown} failure */
  async describe(failure) {
    const isKnown = failure instanceof Problem && failure.code !== "no_answer";
    const text = html`<p role="alert">${isKnown ? explain(failure) : t("app.failed")}</p>`;
    if (!isKnown || failure.code !== "database_unavailable" || this.place?.page !== "oncall") return text;
    const { databaseDown } = await import("./parts/database-down.js");
    return html`${text}<div class="page">${databaseDown()}</div>`;
  }

  /** Show the page that the address names, once its module is there: an element that is defined later loses its properties. Keys are for that page. */
  async show() {
    const { pathname } = location;
    const place = placeOf(pathname);
    const isCurrent = () => pathname === location.pathname;
    await holdingKeys(async () => {
      let unloaded = "";
      await loadPage(place).catch((failure) => (unloaded = explain(failure)));
      if (isCurrent()) this.set({ place, unloaded });
      await this.updateComplete;
      return !unloaded;
    }, isCurrent);
  }

  /** Say that a part of the page could not be loaded, such as a dialog. @param {PromiseRejectionEvent} event */
  sayUnloaded(event) {
    if (!isUnloaded(event.reason)) return;
    event.preventDefault();
    toast({ text: explain(event.reason), isError: true });
  }

  /** @param {"help" | "palette"} dialog */
  async openDialog(dialog) {
    await holdingKeys(async () => {
      await (dialog === "help" ? import("./parts/help.js") : import("./parts/palette.js"));
      this.set({ dialog });
      await this.updateComplete;
    });
  }

  /** Open the palette by its keys, also while a field has the focus. @param {KeyboardEvent} event */
  openPalette(event) {
    if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey) || event.shiftKey || event.altKey) return;
    if (this.state !== "ready" || this.place?.page === "sign-in" || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    this.openDialog("palette");
  }

  /** The commands of the palette besides views and keys. A page may have `commands()` of its own. @returns {import("./parts/palette.js").Group[]} */
  commands() {
    /** @type {import("./parts/palette.js").Command[]} */
    const pages = this.links().map(([page, key, title]) => ({ text: t(title), keys: `g ${key}`, run: () => go(`/console/${page}`) }));
    const settings = [
      ...THEMES.map((theme) => ({ text: `${t("account.theme")}: ${word("theme", theme)}`, run: () => chooseTheme(theme) })),
      ...Object.entries(LANGUAGES).map(([code, name]) => ({ text: `${t("account.language")}: ${name}`, run: () => chooseLanguage(code) })),
      { text: `${t("account.sound")}: ${t(load("sound") ? "account.off" : "account.on")}`, run: () => this.chooseSound(!load("sound")) },
      { text: t("help.title"), keys: "?", run: () => this.openDialog("help") },
      ...(hasSession() ? [{ text: t("account.sign_out"), run: () => this.signOut() }] : []),
    ];
    const { page: name, id = "" } = this.place ?? {};
    const page = /** @type {any} */ (this.querySelector(`${name}-page`));
    if (name === "case" && can("audit:read")) pages.unshift({ text: t("aside.audit"), run: () => go(`/console/audit?case=${encodeURIComponent(id)}`) });
    return [
      ...(page?.commands?.() ?? []),
      { title: "app.pages", commands: pages },
      { title: "palette.settings", commands: settings },
    ];
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
          ${this.links().map(([page, , title]) => this.link(`/console/${page}`, page, t(title)))}
        </nav>
        <span class="grow"></span>
        ${this.liveState()}
        <button class="find" @click=${() => this.openDialog("palette")}>
          <svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><path d="M11.5 7a4.5 4.5 0 1 1-9 0 4.5 4.5 0 0 1 9 0zM10.3 10.3 14 14"></path></svg> <span>${t("palette.title")}</span> <kbd>Ctrl K</kbd>
        </button>
        <button class="plain help" aria-label=${t("help.title")} title=${t("help.title")} @click=${() => this.openDialog("help")}>?</button>
        ${this.account()}
      </header>
      ${this.page()} ${this.dialog === "help" ? html`<help-dialog @close=${this.closeDialog}></help-dialog>` : nothing}
      ${this.dialog === "palette"
        ? html`<command-palette .page=${this.place?.page ?? ""} .groups=${this.commands()} @close=${this.closeDialog}></command-palette>`
        : nothing}
    `;
  }

  closeDialog() {
    this.set({ dialog: "" });
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
      <details class="menu account" @toggle=${this.readEntry}>
        <summary><bdi>${agent()}</bdi></summary>
        <div class="panel">
          <p class="muted">${word("role", me.role)}</p>
          ${isOpen()
            ? html`<form @submit=${this.chooseName}>
                <label>${t("account.work_as")} <input name="name" .value=${agent()} maxlength="36" autocomplete="off" /></label>
                <button>${t("account.use")}</button>
              </form>`
            : nothing}
          ${this.entry && can("directory:write")
            ? html`<label class="check"
                ><input type="checkbox" .checked=${this.entry.away} @change=${(/** @type {any} */ event) => this.setAway(event.target.checked)} />
                ${t("account.away")}</label
              >`
            : nothing}
          <label
            >${t("account.language")}
            <select @change=${(/** @type {any} */ event) => chooseLanguage(event.target.value)}>
              ${Object.entries(LANGUAGES).map(
                ([code, name]) => html`<option value=${code} .selected=${code === language} lang=${code}>${name}</option>`,
              )}
            </select></label
          >
          <label
            >${t("account.theme")}
            <select @change=${(/** @type {any} */ event) => chooseTheme(event.target.value)}>
              ${THEMES.map((theme) => html`<option value=${theme} .selected=${theme === (load("theme") ?? "system")}>${word("theme", theme)}</option>`)}
            </select></label
          >
          <label class="check"
            ><input type="checkbox" .checked=${Boolean(load("sound"))} @change=${(/** @type {any} */ event) => this.chooseSound(event.target.checked)} />
            ${t("account.sound")}</label
          >
          ${hasSession() ? html`<button class="plain" @click=${this.signOut}>${t("account.sign_out")}</button>` : nothing}
        </div>
      </details>
    `;
  }

  page() {
    const { page = "", id = "" } = this.place ?? {};
    if (this.unloaded) return html`<main id="main" class="notice"><h1>${t("app.name")}</h1><p role="alert">${this.unloaded}</p><button @click=${this.show}>${t("app.retry")}</button></main>`;
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
      case "team":
        return html`<team-page></team-page>`;
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

  async readEntry() {
    const id = agent();
    this.set({ entry: (await agents().catch(() => [])).find((each) => each.id === id) });
  }

  /** Say that the user is away, or back. @param {boolean} away */
  async setAway(away) {
    const change = async (/** @type {boolean} */ value) => {
      await setAway(agent(), value);
      await this.readEntry();
    };
    try {
      await change(away);
      toast({ text: away ? t("account.is_away") : t("account.is_back"), undo: () => change(!away) });
    } catch (failure) {
      toast({ text: explain(failure), isError: true });
      this.requestUpdate();
    }
  }

  /** Turn the sound on, and let it be heard once, or off. @param {boolean} isOn */
  chooseSound(isOn) {
    save("sound", isOn || null);
    if (isOn) beep();
    this.requestUpdate();
  }

  async signOut() {
    if (document.documentElement.dataset.provider) {
      forgetDrafts();
      logOut();
      return;
    }
    try {
      await request("/console/session", { method: "DELETE" });
    } catch (failure) {
      if (!(failure instanceof Problem) || failure.status !== 401) return toast({ text: explain(failure), isError: true }); // the session lasts
    }
    forgetDrafts();
    location.assign("/console/sign-in");
    leaveForSignIn();
  }
}

/** @param {string} theme */
function chooseTheme(theme) {
  save("theme", theme === "system" ? null : theme);
  showTheme();
  document.querySelector("support-console .account")?.removeAttribute("open");
}

/** Show the colours that the user chose, or else those of the system. */
function showTheme() {
  document.documentElement.dataset.theme = load("theme") ?? "system";
}

showTheme();
customElements.define("support-console", SupportConsole);
