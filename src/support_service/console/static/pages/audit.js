/** The audit log: who changed what and when, with the values before and after. The address holds the filters. */

import { html, nothing } from "../vendor/lit-element/lit-element.js";
import { explain, query, request } from "../lib/api.js";
import { Element } from "../lib/element.js";
import { clockWithSeconds, day, dayKey, number } from "../lib/format.js";
import { t, word } from "../lib/i18n.js";
import { go } from "../lib/router.js";
import { changed } from "../parts/timeline.js";

const HASH_LENGTH = 12; // characters of a hash that are shown

class AuditPage extends Element {
  /** @type {any[]} */
  items = [];
  /** @type {string | null} */
  nextCursor = null;
  busy = false;
  failure = "";
  copied = false;
  /** @type {string | null} the case whose entries are shown */
  shownId = null;

  connectedCallback() {
    super.connectedCallback();
    document.title = `${t("audit.title")} – ${t("app.name")}`;
    const moved = () => this.isConnected && this.follow();
    this.listen(window, "console:moved", moved);
    this.listen(window, "popstate", moved);
    this.follow();
  }

  get caseId() {
    return new URLSearchParams(location.search).get("case") ?? "";
  }

  follow() {
    if (this.caseId === this.shownId) return;
    this.shownId = this.caseId;
    this.set({ items: [], nextCursor: null, failure: "" });
    if (this.caseId) this.load(null);
  }

  /** @param {string | null} cursor */
  async load(cursor) {
    this.set({ busy: true });
    try {
      const { data } = await request(`/support/cases/${encodeURIComponent(this.caseId)}/audit?${query({ limit: 50, cursor })}`);
      this.set({ items: cursor ? [...this.items, ...data.items] : data.items, nextCursor: data.nextCursor, failure: "" });
    } catch (failure) {
      this.set({ failure: explain(failure) });
    }
    this.set({ busy: false });
  }

  render() {
    return html`
      <main id="main" class="page">
        <h1>${t("audit.title")}</h1>
        <form class="row" role="search" @submit=${this.search}>
          <input name="case" aria-label=${t("aside.link_case")} placeholder=${t("aside.link_case")} .value=${this.caseId} autocomplete="off" required />
          <button class="primary" ?disabled=${this.busy}>${t("audit.show")}</button>
        </form>
        ${this.failure ? html`<p class="error" role="alert">${this.failure}</p>` : nothing} ${this.head()} ${this.entries()}
      </main>
    `;
  }

  /** Show the newest sealed entry: the end of the chain, as far as these entries tell. */
  head() {
    const sealed = this.items.find((item) => item.hash);
    if (!sealed) return nothing;
    return html`<section class="chain">
      <h2>${t("audit.chain")}</h2>
      <p>
        ${t("audit.position", { position: number(sealed.position) })}
        <code>${sealed.hash}</code>
        <button @click=${() => this.copy(sealed.hash)}>${this.copied ? t("audit.copied") : t("audit.copy")}</button>
      </p>
    </section>`;
  }

  entries() {
    if (!this.caseId) return html`<p class="muted">${t("audit.choose")}</p>`;
    /** @type {Map<string, any[]>} */
    const days = new Map();
    for (const item of this.items) days.set(dayKey(item.at), [...(days.get(dayKey(item.at)) ?? []), item]);
    return html`
      ${[...days.values()].map(
        (items) => html`<section>
          <h2>${day(items[0].at)}</h2>
          <ol class="audit">
            ${items.map((item) => this.entry(item))}
          </ol>
        </section>`,
      )}
      ${this.nextCursor ? html`<p class="more"><button ?disabled=${this.busy} @click=${() => this.load(this.nextCursor)}>${t("queue.more")}</button></p>` : nothing}
    `;
  }

  /** @param {any} item */
  entry(item) {
    return html`<li>
      <p class="meta">
        <strong>${word("action", item.action)}</strong> <bdi>${item.actor}</bdi> <span class="muted">${word("role", item.role)}</span>
        ${item.hash ? html`<span class="muted">#${number(item.position)} ${item.hash.slice(0, HASH_LENGTH)}</span>` : html`<span class="muted">${t("audit.unsealed")}</span>`}
        <time datetime=${item.at}>${clockWithSeconds(item.at)}</time>
      </p>
      ${item.changes
        ? html`<dl class="pairs">
            ${Object.entries(item.changes).map(
              ([name, [before, after]]) => html`<dt>${word("field", name)}</dt><dd>${before === null ? nothing : html`<bdi>${changed(name, before)}</bdi> → `}<bdi>${changed(name, after)}</bdi></dd>`,
            )}
          </dl>`
        : html`<p class="muted">${t("audit.erased")}</p>`}
    </li>`;
  }

  /** @param {SubmitEvent} event */
  search(event) {
    event.preventDefault();
    const given = String(new FormData(/** @type {HTMLFormElement} */ (event.target)).get("case")).trim();
    go(`/console/audit?${query({ case: given.split(/[/?#]/).filter(Boolean).pop() ?? "" })}`);
  }

  /** @param {string} hash */
  async copy(hash) {
    await navigator.clipboard.writeText(hash).catch(() => {});
    this.set({ copied: true });
  }
}

customElements.define("audit-page", AuditPage);
