/** A customer: cases, orders and files, and what an erasure would remove. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { explain, request } from "../lib/api.js";
import { Element, html, queueLeft } from "../lib/page.js";
import { dateAndTime, size, t, word } from "../lib/i18n.js";
import { shellWord } from "../lib/shell-word.js";
import { fileLine } from "../parts/timeline.js";

class CustomerPage extends Element {
  // Not a field of the class, which would hide the property that renders the page again.
  static properties = { customerId: {} };
  shownId = "";

  constructor() {
    super();
    /** @type {string} */
    this.customerId = "";
  }
  /** @type {any} */
  page = null;
  failure = "";
  /** @type {any} */
  preview = null;

  willUpdate() {
    if (this.shownId === this.customerId) return;
    this.shownId = this.customerId;
    Object.assign(this, { page: null, failure: "" });
    document.title = `${this.customerId} – ${t("app.name")}`;
    this.load(null);
  }

  /** @param {string | null} cursor */
  async load(cursor) {
    const more = cursor ? `&cursor=${encodeURIComponent(cursor)}` : "";
    try {
      const { data } = await request(`/support/customers/${encodeURIComponent(this.customerId)}?limit=50${more}`);
      this.set({ page: cursor ? joined(this.page, data) : data });
    } catch (failure) {
      this.set({ failure: explain(failure) });
    }
  }

  render() {
    if (this.failure) return html`<main id="main" class="notice"><h1>${t("customer.title")}</h1><p role="alert">${this.failure}</p><p><a href=${queueLeft.address}>${t("case.back")}</a></p></main>`;
    const page = this.page;
    if (!page) return html`<main id="main" class="notice"><h1 class="visually-hidden">${t("customer.title")}</h1><p role="status">${t("app.loading")}</p></main>`;
    return html`
      <main id="main" class="page">
        <h1>${t("customer.title")} <bdi>${page.customerId}</bdi></h1>
        <section>
          <h2>${t("customer.cases")}</h2>
          <ul class="plain-list">
            ${page.cases.map(
              (/** @type {any} */ each) =>
                html`<li>
                  <a href="/console/cases/${encodeURIComponent(each.id)}"><bdi>${each.subject}</bdi></a>
                  <span class="muted">${dateAndTime(each.createdAt)}</span>
                  <span class="pill" data-status=${each.status}>${word("status", each.status)}</span>
                </li>`,
            )}
          </ul>
          ${page.nextCursor ? html`<p class="more"><button @click=${() => this.load(page.nextCursor)}>${t("queue.more")}</button></p>` : nothing}
        </section>
        ${this.references(page.references)} ${this.files(page)} ${this.erasure(page)}
      </main>
      ${this.preview ? html`<file-preview .file=${this.preview} @close=${() => this.set({ preview: null })}></file-preview>` : nothing}
    `;
  }

  /** @param {Record<string, string[]>} references */
  references(references) {
    const rows = Object.entries(references).filter(([, ids]) => ids.length);
    if (!rows.length) return nothing;
    return html`<section>
      <h2>${t("aside.references")}</h2>
      <dl class="pairs">
        ${rows.map(([kind, ids]) => html`<dt>${word("reference", kind)}</dt><dd>${ids.map((id) => html`<bdi>${id}</bdi> `)}</dd>`)}
      </dl>
    </section>`;
  }

  /** @param {any} page */
  files(page) {
    return html`<section>
      <h2>${t("customer.files")}</h2>
      ${page.files.length ? page.files.map((/** @type {any} */ file) => fileLine(file, () => this.showPreview(file))) : html`<p class="muted">${t("customer.no_files")}</p>`}
      ${page.moreFiles ? html`<p class="muted">${t("customer.more_files")}</p>` : nothing}
    </section>`;
  }

  /** @param {any} page */
  erasure(page) {
    const bytes = page.files.reduce((/** @type {number} */ sum, /** @type {any} */ file) => sum + file.sizeBytes, 0);
    return html`<section>
      <h2>${t("customer.erasure")}</h2>
      <p>${t("customer.erasure_text", { cases: page.cases.length, files: page.files.length, size: size(bytes) })}</p>
      ${page.nextCursor ? html`<p class="muted">${t("customer.erasure_more")}</p>` : nothing}
      <p>${t("customer.erasure_command")}</p>
      <code>support-service erase customer ${shellWord(page.customerId)} --dry-run</code>
    </section>`;
  }

  /** @param {any} file */
  async showPreview(file) {
    await import("../parts/file-preview.js");
    this.set({ preview: file });
  }
}

/**
 * @param {any} one
 * @param {any} other the next page
 */
function joined(one, other) {
  const references = Object.fromEntries(
    Object.entries(one.references).map(([kind, ids]) => [kind, [...new Set([...ids, ...other.references[kind]])]]),
  );
  return { ...other, cases: [...one.cases, ...other.cases], files: [...one.files, ...other.files], references };
}

customElements.define("customer-page", CustomerPage);
