/** A customer: who it is, cases, orders and files, and what an erasure would remove. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { can, explain, query, request } from "../lib/api.js";
import { Element, html, queueLeft } from "../lib/page.js";
import { dateAndTime, size, t, word } from "../lib/i18n.js";
import { shellWord } from "../lib/shell-word.js";
import { contactLink, person } from "../parts/person.js";
import { fileLine } from "../parts/timeline.js";
import { toast } from "../parts/toast.js";

const KINDS = ["email", "phone", "other"]; // of contacts
const PAUSE = 200; // ms after a key until customers are asked for
const SHORTEST = 2; // characters that are asked for
const FOUND = 5; // customers that are shown

/** @typedef {{kind: string, value: string, label?: string | null}} Contact */

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
  customer = null;
  failure = "";
  /** @type {any} */
  preview = null;
  /** @type {string | null} of the record, if there is one */
  etag = null;
  /** The contacts while the record is edited. @type {Contact[] | null} */
  editing = null;
  problem = "";
  busy = false;
  /** Customers who may be the same person, as far as the typed text says. @type {any[]} */
  found = [];
  typed = "";

  willUpdate() {
    if (this.shownId === this.customerId) return;
    this.shownId = this.customerId;
    clearTimeout(this.timer);
    Object.assign(this, { customer: null, failure: "", editing: null, problem: "", found: [], typed: "" });
    document.title = `${this.customerId} – ${t("app.name")}`;
    this.load(null);
  }

  get path() {
    return `/support/customers/${encodeURIComponent(this.customerId)}`;
  }

  /** @param {string | null} cursor */
  async load(cursor) {
    const { customerId, path } = this;
    const more = cursor ? `&cursor=${encodeURIComponent(cursor)}` : "";
    try {
      const { data, etag } = await request(`${path}?limit=50${more}`);
      if (customerId !== this.customerId) return;
      if (cursor) {
        if (cursor === this.customer.nextCursor) this.set({ customer: joined(this.customer, data) }); // else the page is there already
        return;
      }
      document.title = `${data.name ?? this.customerId} – ${t("app.name")}`;
      // A customer without a record has the version 0, which no change can have as a condition.
      this.set({ customer: data, etag: etag?.startsWith('"0.') ? null : etag });
    } catch (failure) {
      if (customerId === this.customerId) this.set({ failure: explain(failure) });
    }
  }

  render() {
    if (this.failure) return html`<main id="main" class="notice"><h1>${t("customer.title")}</h1><p role="alert">${this.failure}</p><p><a href=${queueLeft.address}>${t("case.back")}</a></p></main>`;
    const page = this.customer;
    if (!page) return html`<main id="main" class="notice"><h1 class="visually-hidden">${t("customer.title")}</h1><p role="status">${t("app.loading")}</p></main>`;
    return html`
      <main id="main" class="page">
        <header class="page-head">
          <h1>${person(page.customerId, page.name)}</h1>
          ${page.name ? html`<bdi class="muted">${page.customerId}</bdi>` : nothing}
          ${can("customers:write") && !this.editing ? html`<button class="edit" @click=${this.edit}>${t("customer.edit")}</button>` : nothing}
        </header>
        ${this.editing ? this.form(page, this.editing) : this.record(page)} ${this.identities(page)}
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

  /** @param {any} page */
  record({ contacts, notes }) {
    if (!contacts.length && !notes) return nothing;
    return html`<section>
      <h2>${t("customer.contacts")}</h2>
      <dl class="pairs">
        ${contacts.map((/** @type {Contact} */ contact) => html`<dt>${contact.label || word("contact", contact.kind)}</dt><dd>${contactLink(contact)}</dd>`)}
      </dl>
      ${notes ? html`<p class="notes" dir="auto">${notes}</p>` : nothing}
    </section>`;
  }

  /**
   * @param {any} page
   * @param {Contact[]} contacts
   */
  form({ name, notes }, contacts) {
    return html`<section>
      <form class="fields" @submit=${this.save}>
        <label>${t("customer.name")} <input name="name" .value=${name ?? ""} maxlength="128" autocomplete="off" autofocus /></label>
        <fieldset>
          <legend>${t("customer.contacts")}</legend>
          ${contacts.map(
            (contact, index) =>
              html`<div class="row">
                <select aria-label=${t("customer.contact_kind")} @change=${(/** @type {any} */ event) => (contact.kind = event.target.value)}>
                  ${KINDS.map((kind) => html`<option value=${kind} .selected=${kind === contact.kind}>${word("contact", kind)}</option>`)}
                </select>
                <input
                  aria-label=${t("customer.contact")}
                  .value=${contact.value}
                  maxlength="255"
                  required
                  autocomplete="off"
                  @input=${(/** @type {any} */ event) => (contact.value = event.target.value)}
                />
                <button type="button" class="plain" @click=${() => this.set({ editing: contacts.filter((each) => each !== contact) })}>
                  ${t("customer.remove")}<span class="visually-hidden">: ${contact.value || index + 1}</span>
                </button>
              </div>`,
          )}
          <button type="button" @click=${this.addContact}>${t("customer.add_contact")}</button>
        </fieldset>
        <label>${t("customer.notes")} <textarea name="notes" rows="4" maxlength="10000" .value=${notes ?? ""}></textarea></label>
        ${this.problem ? html`<p class="error" role="alert">${this.problem}</p>` : nothing}
        <div class="row end">
          <button type="button" @click=${this.endEditing}>${t("app.cancel")}</button>
          <button class="primary" ?disabled=${this.busy}>${t("customer.save")}</button>
        </div>
      </form>
    </section>`;
  }

  async edit() {
    this.set({ editing: this.customer.contacts.map((/** @type {Contact} */ each) => ({ ...each })), problem: "" });
    await this.updateComplete;
    /** @type {HTMLElement | null} */ (this.querySelector("[name=name]"))?.focus();
  }

  async endEditing() {
    this.set({ editing: null });
    await this.updateComplete;
    /** @type {HTMLElement | null} */ (this.querySelector(".edit"))?.focus();
  }

  async addContact() {
    this.set({ editing: [...(this.editing ?? []), { kind: "email", value: "" }] });
    await this.updateComplete;
    /** @type {HTMLElement | null} */ (this.querySelector(".row:last-of-type input"))?.focus();
  }

  /** @param {SubmitEvent} event */
  async save(event) {
    event.preventDefault();
    const form = new FormData(/** @type {HTMLFormElement} */ (event.target));
    const { name, contacts, notes, customerId, identities } = this.customer;
    const path = `/support/customers/${encodeURIComponent(identities[0])}`; // that has the record
    this.set({ busy: true, problem: "" });
    try {
      const body = { name: String(form.get("name")).trim() || null, contacts: this.editing, notes: String(form.get("notes")).trim() || null };
      const { etag } = await request(path, { method: "PUT", body, ifMatch: this.etag, isNew: !this.etag });
      if (this.customer?.customerId === customerId) await Promise.all([this.load(null), this.endEditing()]);
      const undo = async () => {
        await request(path, { method: "PUT", body: { name, contacts, notes }, ifMatch: etag });
        await this.load(null);
      };
      toast({ text: t("customer.saved", { name: body.name ?? customerId }), undo });
    } catch (failure) {
      if (this.customer?.customerId === customerId) this.set({ problem: explain(failure) });
      else toast({ text: explain(failure), isError: true });
    }
    this.set({ busy: false });
  }

  /** The ids of the person, and a search for another one. @param {any} page */
  identities({ identities, customerId }) {
    if (!can("customers:merge")) return nothing;
    const others = identities.filter((/** @type {string} */ each) => each !== identities[0]);
    const isFound = (/** @type {any} */ each) => !identities.includes(each.customerId);
    return html`<section>
      <h2>${t("customer.identities")}</h2>
      ${others.length
        ? html`<ul class="plain-list">
            ${others.map(
              (/** @type {string} */ other) =>
                html`<li>
                  <bdi>${other}</bdi>
                  <button class="plain" @click=${() => this.separate(identities[0], other)}>${t("customer.separate")}<span class="visually-hidden">: ${other}</span></button>
                </li>`,
            )}
          </ul>`
        : nothing}
      <form class="row" role="search" @submit=${this.mergeTyped}>
        <input
          name="other"
          aria-label=${t("customer.other")}
          placeholder=${t("customer.other")}
          maxlength="128"
          autocomplete="off"
          @input=${(/** @type {any} */ event) => this.findOthers(event.target.value.trim())}
        />
        <button>${t("customer.merge")}</button>
      </form>
      ${this.found.filter(isFound).map(
        (each) =>
          html`<p>
            <button class="plain" @click=${() => this.merge(customerId, each.customerId)}>${person(each.customerId, each.name)} <bdi class="muted">${each.customerId}</bdi></button>
          </p>`,
      )}
    </section>`;
  }

  /** @param {string} typed */
  findOthers(typed) {
    this.typed = typed;
    this.set({ found: [] });
    this.later(PAUSE, async () => {
      if (typed.length < SHORTEST) return;
      const answer = await request(`/support/customers?${query({ q: typed, limit: FOUND })}`).catch(() => null);
      if (typed === this.typed) this.set({ found: answer?.data.items ?? [] });
    });
  }

  /** @param {SubmitEvent} event */
  mergeTyped(event) {
    event.preventDefault();
    const other = String(new FormData(/** @type {HTMLFormElement} */ (event.target)).get("other")).trim();
    if (other) this.merge(this.customer.customerId, other);
  }

  /** Say that another id is the same person. @param {string} id @param {string} other */
  async merge(id, other) {
    await this.change(t("customer.merged", { other }), () => sendMerge(id, other), () => sendSeparation(id, other));
  }

  /** @param {string} id @param {string} other */
  async separate(id, other) {
    await this.change(t("customer.separated", { other }), () => sendSeparation(id, other), () => sendMerge(id, other));
  }

  /**
   * @param {string} text what was done
   * @param {() => Promise<unknown>} send
   * @param {() => Promise<unknown>} undo
   */
  async change(text, send, undo) {
    const { customerId } = this;
    clearTimeout(this.timer);
    try {
      await send();
      const field = /** @type {HTMLInputElement | null} */ (this.querySelector("[name=other]"));
      if (field && customerId === this.customerId) {
        field.value = "";
        field.focus();
        this.set({ found: [], typed: "" });
        await this.load(null);
      }
      toast({ text, undo: async () => (await undo(), this.load(null)) });
    } catch (failure) {
      toast({ text: explain(failure), isError: true });
    }
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

/** @param {string} into @param {string} other */
function sendMerge(into, other) {
  return request(`/support/customers/${encodeURIComponent(other)}/merge`, { method: "POST", body: { into } });
}

/** @param {string} id @param {string} other */
function sendSeparation(id, other) {
  return request(`/support/customers/${encodeURIComponent(id)}/identities/${encodeURIComponent(other)}`, { method: "DELETE" });
}

/**
 * @param {any} one
 * @param {any} other the next page
 */
function joined(one, other) {
  const references = Object.fromEntries(
    Object.entries(one.references).map(([kind, ids]) => [kind, [...new Set([...ids, ...other.references[kind]])]]),
  );
  return { ...one, nextCursor: other.nextCursor, cases: [...one.cases, ...other.cases], files: [...one.files, ...other.files], references };
}

customElements.define("customer-page", CustomerPage);
