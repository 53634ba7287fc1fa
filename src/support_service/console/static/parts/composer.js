/** The composer: a reply or an internal note. Its draft survives a reload, and is never sent over another's answer. */

import { html, nothing } from "../vendor/lit-element/lit-element.js";
import { can, explain, me, newKey, Problem, request, tagOf } from "../lib/api.js";
import { t, word } from "../lib/i18n.js";
import { load, save } from "../lib/storage.js";

const STATUSES = ["pending", "resolved", "open"];

/** @typedef {"public" | "internal"} Mode */

/** Part of the page of a case, which renders it. */
export class Composer {
  /** @type {Mode} */
  mode = "public";
  text = "";
  status = "";
  busy = false;
  message = "";
  /** The version of the case that its writer has seen. It stays while there is a draft, so that changes are noticed. */
  seen = 0;
  /** The number of own changes since `seen`; each makes a version. */
  ownChanges = 0;
  key = newKey();
  typedAt = 0;

  /** @param {import("../pages/case.js").CasePage} page */
  constructor(page) {
    this.page = page;
  }

  /** @type {import("./file-list.js").FileList | null} loaded with the first file */
  files = null;
  /** @type {import("./macro-list.js").MacroList | null} loaded with the first `;` */
  macros = null;

  get box() {
    return /** @type {HTMLTextAreaElement} */ (this.page.querySelector("#composer"));
  }

  get draftName() {
    return `draft:${me.name}:${this.page.caseId}`;
  }

  /** Take up the draft of this case, if there is one. */
  restore() {
    const draft = load(this.draftName);
    Object.assign(this, { text: draft?.text ?? "", mode: draft?.mode ?? "public", status: draft?.status ?? "" });
    this.seen = draft?.seen ?? 0;
  }

  keep() {
    const { text, mode, status, seen } = this;
    save(this.draftName, text.trim() ? { text, mode, status, seen } : null);
  }

  /** Note the version that is shown. While there is a draft, only own changes count as seen. @param {number} version */
  show(version) {
    const isOwn = version === this.seen + this.ownChanges;
    if (!this.text.trim() || !this.seen || isOwn) {
      this.seen = version;
      this.ownChanges = 0;
      this.keep();
    }
  }

  /** @param {Mode} mode */
  choose(mode) {
    this.mode = mode;
    this.keep();
    this.page.requestUpdate();
    this.box?.focus();
  }

  /** @param {InputEvent} event */
  input(event) {
    const box = /** @type {HTMLTextAreaElement} */ (event.target);
    const wasEmpty = !this.text.trim();
    this.text = box.value;
    if (wasEmpty) this.seen = this.page.version;
    this.typedAt = Date.now();
    this.keep();
    if (this.macros || this.text.includes(";")) this.followMacros(box);
  }

  /** @param {HTMLTextAreaElement} box */
  async followMacros(box) {
    if (!this.macros) {
      const { MacroList } = await import("./macro-list.js");
      this.macros ??= new MacroList(
        () => this.page.requestUpdate(),
        (start, filled) => this.insert(start, filled),
      );
    }
    await this.macros.follow(box); // before the next key is handled, once the list is there
  }

  /** @param {KeyboardEvent} event */
  keydown(event) {
    if (this.macros?.key(event, this.page.caseId)) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.send();
    } else if (event.key === "Escape") this.box.blur();
  }

  /**
   * @param {number} start
   * @param {any} filled
   */
  insert(start, filled) {
    const box = this.box;
    const end = box.selectionStart;
    box.setRangeText(filled.text, start, end, "end");
    box.dispatchEvent(new InputEvent("input", { bubbles: true }));
    box.focus();
    if (filled.status) this.status = filled.status;
    const missing = filled.tags.filter((/** @type {string} */ tag) => !this.page.detail.tags.includes(tag));
    if (missing.length && can("cases:write")) this.page.change({ tags: [...this.page.detail.tags, ...missing] });
    this.page.requestUpdate();
  }

  /** @param {Iterable<File>} files */
  async attach(files) {
    if (!can("attachments:write")) return;
    const { FileList } = await import("./file-list.js");
    this.files ??= new FileList(
      () => this.page.requestUpdate(),
      () => this.page.reload({ own: true }),
    );
    this.files.add(this.page.caseId, files, this.mode);
  }

  /** Send the message; with `over`, also if the case has changed since the draft began. */
  async send({ over = false } = {}) {
    const message = this.text.trim();
    if (!message || this.busy) return;
    if (this.files?.isBusy) {
      this.message = t("composer.files_first");
      return this.page.requestUpdate();
    }
    this.busy = true;
    this.message = "";
    this.page.requestUpdate();
    try {
      await this.post(message, over);
      await this.page.reload({ own: true });
    } catch (failure) {
      if (failure instanceof Problem && failure.code === "case_changed") await this.page.askAboutChange(failure.members.messages);
      else this.message = explain(failure);
    }
    this.busy = false;
    this.page.requestUpdate();
  }

  /**
   * @param {string} message
   * @param {boolean} over
   */
  async post(message, over) {
    const path = `/support/cases/${encodeURIComponent(this.page.caseId)}`;
    const file = this.files?.stored.find((upload) => upload.visibility === this.mode)?.stored;
    const body = {
      authorType: me.role === "customer" ? "customer" : "agent",
      message,
      visibility: this.mode,
      ...(file ? { attachmentUri: file.uri } : {}),
    };
    const seen = tagOf(over ? this.page.version : this.seen);
    await request(`${path}/messages`, { method: "POST", body, ifMatch: seen, key: this.key });
    this.key = newKey();
    const status = this.status;
    this.text = this.status = "";
    this.files?.clearStored();
    this.seen = 0;
    this.keep();
    if (status && status !== this.page.detail.status) {
      await request(`${path}/status`, { method: "POST", body: { status }, key: newKey() });
    }
  }

  /** @param {{name: string, state: string}[]} viewers */
  render(viewers) {
    if (!can("messages:write")) return nothing;
    const isNote = this.mode === "internal";
    const typing = viewers.filter(({ state }) => state === "typing").map(({ name }) => name);
    return html`
      <section class="composer" data-mode=${this.mode} aria-label=${t("composer.title")}>
        <p class="typing" role="status">${typing.length ? t("composer.typing", { names: typing.join(", "), n: typing.length }) : nothing}</p>
        ${this.files?.render()} ${this.macros?.render(this.page.caseId)}
        <div class="modes" role="group" aria-label=${t("composer.mode")}>
          <button type="button" aria-pressed=${!isNote} @click=${() => this.choose("public")}>${t("composer.reply")}</button>
          ${me.role === "customer"
            ? nothing
            : html`<button type="button" aria-pressed=${isNote} @click=${() => this.choose("internal")}>${t("composer.note")}</button>`}
          <span class="muted">${isNote ? t("composer.note_hint") : t("composer.reply_hint")}</span>
        </div>
        <textarea
          id="composer"
          rows="4"
          dir="auto"
          maxlength="65536"
          aria-label=${isNote ? t("composer.note") : t("composer.reply")}
          aria-autocomplete="list"
          aria-controls=${this.macros ? "macros" : nothing}
          aria-activedescendant=${this.macros?.activeId ?? nothing}
          placeholder=${isNote ? t("composer.note_placeholder") : t("composer.reply_placeholder")}
          .value=${this.text}
          @input=${(/** @type {any} */ event) => this.input(event)}
          @keydown=${(/** @type {any} */ event) => this.keydown(event)}
          @paste=${(/** @type {any} */ event) => this.paste(event)}
          @blur=${() => this.macros?.close()}
        ></textarea>
        <div class="actions">
          <label class="button file-button">
            ${t("files.add")}
            <input type="file" multiple @change=${(/** @type {any} */ event) => this.chosen(event.target)} />
          </label>
          <span class="grow">
            ${this.message ? html`<span class="error" role="alert">${this.message}</span>` : nothing}
            ${this.macros?.message ? html`<span class="warning" role="status">${this.macros.message}</span>` : nothing}
          </span>
          ${can("cases:write") ? this.statusChoice() : nothing}
          <button class="primary send" ?disabled=${this.busy} title="Ctrl + Enter" @click=${() => this.send()}>
            ${isNote ? t("composer.add_note") : t("composer.send")}
          </button>
        </div>
      </section>
    `;
  }

  statusChoice() {
    const current = this.page.detail.status;
    return html`<select
      aria-label=${t("composer.then")}
      @change=${(/** @type {any} */ event) => {
        this.status = event.target.value;
        this.keep();
      }}
    >
      <option value="" .selected=${!this.status}>${t("composer.keep_status", { status: word("status", current) })}</option>
      ${STATUSES.filter((status) => status !== current).map(
        (status) => html`<option value=${status} .selected=${status === this.status}>${t("composer.set_status", { status: word("status", status) })}</option>`,
      )}
    </select>`;
  }

  /** @param {HTMLInputElement} input */
  chosen(input) {
    this.attach([...(input.files ?? [])]);
    input.value = ""; // so that the same file can be chosen again
  }

  /** @param {ClipboardEvent} event */
  paste(event) {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    this.attach(files);
  }
}
