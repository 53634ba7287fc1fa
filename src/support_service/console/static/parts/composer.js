/** The composer: a reply and an internal note. Both drafts survive a reload. Neither is sent over another's answer. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { can, explain, me, newKey, Problem, request, tagOf } from "../lib/api.js";
import { t, word } from "../lib/i18n.js";
import { html } from "../lib/page.js";
import { load, save } from "../lib/storage.js";

const STATUSES = ["pending", "resolved", "open"];

/** @typedef {"public" | "internal"} Mode */

/** A message that is being written, with what will be done to the case when it is sent. */
class Draft {
  text = "";
  status = "";
  /** @type {string[]} tags that macros add */
  tags = [];
  /** The version of the case that its writer has seen. It stays while there is a text, so that changes are noticed. */
  seen = 0;
  /** @type {any} the case at that version, unless the draft is from before a reload */
  seenDetail = null;
  /** The number of own changes since `seen`. Each makes a version. */
  ownChanges = 0;
  key = newKey();

  get isEmpty() {
    return !this.text.trim();
  }

  /** Note what the writer sees. @param {any} detail @param {number} version */
  see(detail, version) {
    Object.assign(this, { seen: version, seenDetail: detail, ownChanges: 0 });
  }

  /** What is kept in the browser. */
  toJSON() {
    const { text, status, tags, seen } = this;
    return this.isEmpty ? undefined : { text, status, tags, seen };
  }
}

/** Part of the page of a case, which renders it. */
export class Composer {
  /** @type {Mode} */
  mode = "public";
  /** One for each kind of message: the text of a note never gets into a reply. */
  drafts = { public: new Draft(), internal: new Draft() };
  busy = false;
  message = "";
  typedAt = 0;

  /** @param {import("../pages/case.js").CasePage} page */
  constructor(page) {
    this.page = page;
    this.caseId = page.caseId; // the page may show another case before all is sent
  }

  get isShown() {
    return this.page.composer === this;
  }

  get path() {
    return `/support/cases/${encodeURIComponent(this.caseId)}`;
  }

  /** @type {import("./file-list.js").FileList | null} loaded with the first file */
  files = null;
  /** @type {import("./macro-list.js").MacroList | null} loaded with the first `;` */
  macros = null;

  get box() {
    return /** @type {HTMLTextAreaElement} */ (this.page.querySelector("#composer"));
  }

  get draft() {
    return this.drafts[this.mode];
  }

  get storedName() {
    return `draft:${me.name}:${this.caseId}`;
  }

  /** The case that is answered instead, if this one is closed as its duplicate. @type {string | undefined} */
  get original() {
    const { status, links } = this.page.detail;
    return status === "closed" ? links.find((/** @type {any} */ each) => each.kind === "duplicate-of")?.caseId : undefined;
  }

  /** Whether nothing may be sent: the customer is answered in the original case. */
  get isBlocked() {
    return this.mode === "public" && this.original !== undefined;
  }

  /** Take up the drafts of this case. */
  restore() {
    const stored = load(this.storedName);
    if (!stored) return;
    this.mode = stored.mode;
    if (stored.text) stored[stored.mode] = { text: stored.text, status: stored.status, seen: stored.seen }; // from an earlier release
    Object.assign(this.drafts.public, stored.public);
    Object.assign(this.drafts.internal, stored.internal);
  }

  keep() {
    const { mode, drafts } = this;
    save(this.storedName, drafts.public.isEmpty && drafts.internal.isEmpty ? null : { mode, ...drafts });
  }

  /** Note the version that is shown. While a draft has a text, only own changes count as seen. @param {any} detail @param {number} version */
  show(detail, version) {
    for (const draft of Object.values(this.drafts)) {
      const isOwn = version === draft.seen + draft.ownChanges;
      if (draft.isEmpty || !draft.seen || isOwn) draft.see(detail, version);
    }
    this.keep();
  }

  noteOwnChange() {
    for (const draft of Object.values(this.drafts)) draft.ownChanges += 1;
  }

  /** @param {Mode} mode */
  async choose(mode) {
    this.mode = mode;
    this.message = "";
    this.macros?.close();
    this.keep();
    this.page.requestUpdate();
    await this.page.updateComplete;
    this.box?.focus();
  }

  /** @param {InputEvent} event */
  input(event) {
    const box = /** @type {HTMLTextAreaElement} */ (event.target);
    const { draft } = this;
    if (draft.isEmpty) draft.see(this.page.detail, this.page.version);
    draft.text = box.value;
    if (draft.isEmpty) {
      Object.assign(draft, { status: "", tags: [] }); // a draft that was thrown away changes nothing
      this.page.requestUpdate();
    }
    this.typedAt = Date.now();
    this.keep();
    if (this.macros || draft.text.includes(";")) this.followMacros(box);
  }

  /** @param {HTMLTextAreaElement} box */
  async followMacros(box) {
    if (!this.macros) {
      const { MacroList } = await import("./macro-list.js");
      this.macros ??= new MacroList(
        () => this.page.requestUpdate(),
        (box, start, filled) => this.insert(box, start, filled),
      );
    }
    await this.macros.follow(box); // before the next key is handled, once the list is there
  }

  /** @param {KeyboardEvent} event */
  keydown(event) {
    if (this.macros?.key(event, this.caseId)) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.send();
    } else if (event.key === "Escape") this.box.blur();
  }

  /**
   * Insert the text of a macro. Its status and tags wait until the message is sent.
   * @param {HTMLTextAreaElement} box in which it was chosen
   * @param {number} start
   * @param {any} filled
   */
  insert(box, start, filled) {
    if (!box.isConnected) return; // its writer has turned to the other kind of message
    const { draft } = this;
    const end = box.selectionStart;
    box.setRangeText(filled.text, start, end, "end");
    box.dispatchEvent(new InputEvent("input", { bubbles: true }));
    box.focus();
    if (!can("cases:write")) return;
    if (filled.status) draft.status = filled.status;
    const known = [...this.page.detail.tags, ...draft.tags];
    draft.tags = [...draft.tags, ...filled.tags.filter((/** @type {string} */ tag) => !known.includes(tag))];
    this.keep();
    this.page.requestUpdate();
  }

  /** @param {Iterable<File>} files */
  async attach(files) {
    if (!can("attachments:write")) return;
    const { FileList } = await import("./file-list.js");
    this.files ??= new FileList(() => this.page.requestUpdate());
    this.files.add(this.caseId, files, this.mode);
  }

  /** Send the message; with `over`, also if the case has changed since the draft began. */
  async send({ over = false } = {}) {
    const { draft, mode } = this;
    if (draft.isEmpty || this.busy || this.isBlocked) return;
    this.busy = true;
    this.message = "";
    this.page.requestUpdate();
    if (!over && !(await this.mayLeaveOut(mode))) {
      this.busy = false;
      return this.page.requestUpdate();
    }
    try {
      await this.post(draft, mode, over);
      await this.finish(draft);
      if (this.isShown) await this.page.reload({ own: true });
    } catch (failure) {
      if (failure instanceof Problem && failure.code === "case_changed" && this.isShown) {
        this.mode = mode;
        await this.page.askAboutChange(failure.members.messages);
      } else this.message = explain(failure);
    }
    this.busy = false;
    this.page.requestUpdate();
  }

  /** Ask whether to send without the files that are not stored. @param {Mode} mode */
  async mayLeaveOut(mode) {
    const missing = this.files?.missing(mode) ?? [];
    if (!missing.length) return true;
    const text = t("composer.without_files_text", { names: missing.map(({ file }) => file.name).join(", ") });
    return this.page.confirm({ title: t("composer.without_files"), text, yes: t("composer.send_without") });
  }

  /**
   * @param {Draft} draft
   * @param {Mode} mode
   * @param {boolean} over
   */
  async post(draft, mode, over) {
    const files = this.files?.stored(mode) ?? [];
    const body = {
      authorType: me.role === "customer" ? "customer" : "agent",
      message: draft.text.trim(),
      visibility: mode,
      attachmentIds: files.map(({ stored }) => stored.id),
    };
    const seen = tagOf(over ? this.page.version : draft.seen);
    await request(`${this.path}/messages`, { method: "POST", body, ifMatch: seen, key: draft.key });
    this.drafts[mode] = new Draft();
    this.files?.leaveOut(files);
    this.keep();
  }

  /** Set the status and the tags that a sent message came with. @param {Draft} draft */
  async finish({ status, tags }) {
    if (!status && !tags.length) return;
    try {
      const { data, etag } = await request(`${this.path}?messagesLimit=1`);
      const missing = tags.filter((tag) => !data.tags.includes(tag));
      const body = {
        ...(status && status !== data.status ? { status } : {}),
        ...(missing.length ? { tags: [...data.tags, ...missing] } : {}),
      };
      if (!Object.keys(body).length) return;
      await request(this.path, { method: "PATCH", body, ifMatch: etag, key: newKey() });
      this.noteOwnChange();
    } catch (failure) {
      this.message = t("composer.only_message", { reason: explain(failure) });
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
        ${this.files?.render(this.mode)} ${this.macros?.render(this.caseId)}
        <div class="modes" role="group" aria-label=${t("composer.mode")}>
          <button type="button" aria-pressed=${!isNote} @click=${() => this.choose("public")}>${t("composer.reply")}</button>
          ${me.role === "customer"
            ? nothing
            : html`<button type="button" aria-pressed=${isNote} @click=${() => this.choose("internal")}>${t("composer.note")}</button>`}
          <span class="muted">${isNote ? t("composer.note_hint") : this.isBlocked ? t("composer.duplicate_hint") : t("composer.reply_hint")}</span>
        </div>
        ${repeat([this.mode], (mode) => mode, () => this.textBox(isNote))} ${this.tagsToAdd()}
        <div class="actions">
          <label class="button file-button">
            ${t("files.add")}
            <input type="file" multiple @change=${(/** @type {any} */ event) => this.chosen(event.target)} />
          </label>
          <span class="grow">
            ${this.message ? html`<span class="error" role="alert">${this.message}</span>` : nothing}
            ${this.macros?.message ? html`<span class="warning" role="status">${this.macros.message}</span>` : nothing}
          </span>
          ${this.isBlocked ? html`<a class="button" href="/console/cases/${encodeURIComponent(this.original ?? "")}">${t("composer.original")}</a>` : this.sending(isNote)}
        </div>
      </section>
    `;
  }

  /** Each kind of message has a box of its own: undoing in one can't bring back the text of the other. @param {boolean} isNote */
  textBox(isNote) {
    return html`<textarea
      id="composer"
      rows="4"
      dir="auto"
      maxlength="65536"
      aria-label=${isNote ? t("composer.note") : t("composer.reply")}
      aria-autocomplete="list"
      aria-controls=${this.macros ? "macros" : nothing}
      aria-activedescendant=${this.macros?.activeId ?? nothing}
      placeholder=${isNote ? t("composer.note_placeholder") : t("composer.reply_placeholder")}
      ?readonly=${this.isBlocked}
      .value=${this.draft.text}
      @input=${(/** @type {any} */ event) => this.input(event)}
      @keydown=${(/** @type {any} */ event) => this.keydown(event)}
      @paste=${(/** @type {any} */ event) => this.paste(event)}
      @blur=${() => this.macros?.close()}
    ></textarea>`;
  }

  tagsToAdd() {
    const { draft } = this;
    if (!draft.tags.length) return nothing;
    const remove = (/** @type {string} */ tag) => {
      draft.tags = draft.tags.filter((each) => each !== tag);
      this.keep();
      this.page.requestUpdate();
    };
    return html`<p class="tags">
      <span class="muted">${t("composer.then_tags")}</span>
      ${draft.tags.map(
        (tag) => html`<span class="tag"><bdi>${tag}</bdi><button class="plain" aria-label=${t("composer.no_tag", { tag })} @click=${() => remove(tag)}>×</button></span>`,
      )}
    </p>`;
  }

  /** @param {boolean} isNote */
  sending(isNote) {
    return html`${can("cases:write") ? this.statusChoice() : nothing}
      <button class="primary send" ?disabled=${this.busy} title="Ctrl + Enter" @click=${() => this.send()}>
        ${isNote ? t("composer.add_note") : t("composer.send")}
      </button>`;
  }

  statusChoice() {
    const current = this.page.detail.status;
    const choices = new Set([...STATUSES, this.draft.status]); // a macro may name another one
    return html`<select
      aria-label=${t("composer.then")}
      @change=${(/** @type {any} */ event) => {
        this.draft.status = event.target.value;
        this.keep();
      }}
    >
      <option value="" .selected=${!this.draft.status}>${t("composer.keep_status", { status: word("status", current) })}</option>
      ${[...choices].filter((status) => status && status !== current).map(
        (status) => html`<option value=${status} .selected=${status === this.draft.status}>${t("composer.set_status", { status: word("status", status) })}</option>`,
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
