/** The composer: a reply and an internal note. Both drafts survive a reload. Neither is sent over another's answer. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { agent, can, explain, isVariable, me, newKey, Problem, request, tagOf } from "../lib/api.js";
import { t, text, word } from "../lib/i18n.js";
import { hasModifier, holdingKeys, html, wide } from "../lib/page.js";
import { load, save } from "../lib/storage.js";
import "./choice-menu.js";
import { nameIn } from "./person.js";
import { toast } from "./toast.js";

const DEFAULT_END = "pending"; // the status that the button for replies sets, until its user chooses another
const CHOSEN_END = "send-then";
const ENDS = ["", "-next", "pending", "pending-next", "resolved", "resolved-next"]; // what can happen after a reply: a status, and the next case
const GAP = /\{\{[^{}]*\}\}/g; // as the service finds variables in macros
const MENTION = /(?<![\p{L}\p{N}_@./])@[\p{L}\p{N}_](?:[\p{L}\p{M}\p{N}_.-]*[\p{L}\p{M}\p{N}_])?/gu;

/** @typedef {"public" | "internal"} Mode */
/** @typedef {{status?: string, next?: boolean}} End what happens after the message is sent */
/** @typedef {{draft: Draft, mode: Mode, end: End}} Attempt */

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
  /** Kept over a reload: a message whose answer was lost is not sent twice. */
  key = newKey();
  /** Whether a reply assigns an unassigned case to its writer. */
  takes = true;
  /** @type {import("../lib/upload.js").Kept[]} */
  files = [];
  /** Why it was not sent. */
  failure = "";
  /** What its writer wants to send although it looks like a mistake. @type {Set<string>} */
  intended = new Set();
  /** Whether it was sent, while that is under way; or what its writer corrects first. @type {Promise<boolean | string> | null} */
  sending = null;

  get isEmpty() {
    return !this.text.trim();
  }

  /** Note what the writer sees. @param {any} detail @param {number} version */
  see(detail, version) {
    Object.assign(this, { seen: version, seenDetail: detail });
  }

  /** What is kept in the browser. */
  toJSON() {
    const { text, status, tags, seen, key, takes, files } = this;
    return this.isEmpty && !files.length ? undefined : { text, status, tags, seen, key, takes, files };
  }
}

/** Part of the page of a case, which renders it. */
export class Composer {
  /** @type {Mode} */
  mode = "public";
  /** One for each kind of message: the text of a note never gets into a reply. */
  drafts = { public: new Draft(), internal: new Draft() };
  /** Settled when all messages are sent, and all that follows them is done. @type {Promise<void> | null} */
  underWay = null;
  /** Whether it has, or just had, the focus. */
  opened = false;
  /** Whether the browser has the drafts as they are. */
  isKept = true;
  /** The version after each own change, by the version before it. @type {Map<number, number>} */
  own = new Map();

  /** @param {import("../pages/case.js").CasePage} page */
  constructor(page) {
    this.page = page;
    this.caseId = page.caseId; // the page may show another case before all is sent
  }

  get busy() {
    return this.underWay !== null;
  }

  get isShown() {
    return this.page.composer === this && this.page.isConnected;
  }

  get path() {
    return `/support/cases/${encodeURIComponent(this.caseId)}`;
  }

  /** @type {import("./file-list.js").FileList | null} loaded with the first file, also of a draft */
  files = null;
  /** @type {import("./suggestions.js").Suggestions | null} loaded with the first `;` or `@` */
  suggestions = null;

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

  /** Take up what another tab of this user has written, or sent. A message on its way stays, and one with files, which belong to a tab. @param {StorageEvent} event */
  takeUp({ key }) {
    if (!key?.endsWith(this.storedName)) return;
    const { mode, drafts } = this;
    this.drafts = { public: new Draft(), internal: new Draft() };
    this.restore();
    this.mode = mode;
    for (const each of /** @type {const} */ (["public", "internal"])) if (drafts[each].sending || this.files?.count(each)) this.drafts[each] = drafts[each];
    if (this.page.detail) this.show(this.page.detail, this.page.version);
    this.page.requestUpdate();
  }

  /** Take up the drafts of this case. */
  restore() {
    const stored = load(this.storedName);
    if (!stored) return;
    this.mode = stored.mode;
    if (stored.text) stored[stored.mode] = { text: stored.text, status: stored.status, seen: stored.seen }; // from an earlier release
    Object.assign(this.drafts.public, stored.public);
    Object.assign(this.drafts.internal, stored.internal);
    if (Object.values(this.drafts).some(({ files }) => files.length)) this.loadFiles();
  }

  keep() {
    const { mode, drafts } = this;
    const isKept = save(this.storedName, Object.values(drafts).some((draft) => draft.toJSON()) ? { mode, ...drafts } : null);
    if (isKept !== this.isKept) this.page.requestUpdate();
    this.isKept = isKept;
  }

  /** Note the version that is shown. While a draft has a text, only own changes count as seen. @param {any} detail @param {number} version */
  show(detail, version) {
    for (const draft of Object.values(this.drafts)) {
      if (draft.isEmpty || !draft.seen || draft.seen === version) draft.see(detail, version);
    }
  }

  /** The version that is shown, after the own changes that follow it: the writer knows them before they are shown. */
  get knownVersion() {
    let { version } = this.page;
    for (let next = this.own.get(version); next !== undefined; next = this.own.get(version)) version = next;
    return version;
  }

  /**
   * Note a change of the writer: drafts of the version before it are of the version after it, also the kept ones, which
   * may have a newer text from another tab.
   * @param {import("./case-changes.js").Versions} versions
   */
  noteOwnChange({ from, to }) {
    this.own.set(from, to);
    const kept = load(this.storedName);
    for (const draft of [this.drafts.public, this.drafts.internal, kept?.public, kept?.internal]) if (draft?.seen === from) draft.seen = to;
    if (kept) save(this.storedName, kept);
  }

  /** Write such a message. What is typed before its box is there, or while the message before it is sent, is part of it. @param {Mode} mode */
  async choose(mode) {
    if (!can("messages:write") || (mode === "internal" && me.role === "customer")) return;
    this.mode = mode;
    this.opened = true;
    this.suggestions?.close();
    this.keep();
    this.page.requestUpdate();
    const opens = async () => {
      await (this.page.detail ? this.draft.sending : this.page.opening)?.catch(() => {});
      await this.page.updateComplete;
      if (!isFor()) return;
      isThere = true; // keys that follow go where those before them lead
      this.box?.focus();
    };
    let isThere = false;
    const isFor = () => isThere || (this.isShown && this.mode === mode && !document.querySelector("dialog[open]"));
    if (this.page.detail && !this.draft.sending) return opens();
    const rest = await holdingKeys(opens, isFor);
    if (rest) this.add(rest, mode);
  }

  /** Add a text to a draft that is not shown any more, perhaps because its writer has gone on to another one. @param {string} added @param {Mode} mode */
  add(added, mode) {
    const { current } = this;
    const draft = current.drafts[mode];
    if (draft.isEmpty && this.page.detail?.id === this.caseId) draft.see(this.page.detail, current.knownVersion);
    draft.text += added;
    current.keep();
    this.page.requestUpdate();
  }

  /** The composer of the case that is shown, if it is this one's case: its writer may have come back to it. @returns {Composer} */
  get current() {
    const { composer } = this.page;
    return composer.caseId === this.caseId ? composer : this;
  }

  /** Leave the keys to the conversation: no later key becomes a part of a message. */
  leave() {
    this.page.view.focus();
  }

  /** Whether more than one line is shown. */
  get isOpen() {
    return this.opened || !this.draft.isEmpty || this.busy || Object.values(this.drafts).some(({ failure }) => failure) || Boolean(this.files?.count(this.mode));
  }

  /** Get larger with the focus, but not under the pointer on a tab, whose click opens it. @param {FocusEvent} event */
  focused({ target }) {
    if (this.opened || /** @type {HTMLElement} */ (target).closest(".modes")) return;
    this.opened = true;
    this.page.requestUpdate();
  }

  /** Get small when the focus has left, but not under the pointer: what is being clicked must not move. @param {FocusEvent} event */
  blurred({ relatedTarget, currentTarget }) {
    const section = /** @type {HTMLElement} */ (currentTarget);
    const close = () => {
      if (section.contains(document.activeElement)) return;
      this.opened = false;
      this.page.requestUpdate();
    };
    if (relatedTarget instanceof Node && section.contains(relatedTarget)) return;
    if (this.page.isPressing) addEventListener("pointerup", () => setTimeout(close), { once: true });
    else setTimeout(close);
  }

  /** @param {InputEvent} event */
  input(event) {
    const box = /** @type {HTMLTextAreaElement} */ (event.target);
    const { draft } = this;
    const wasEmpty = draft.isEmpty;
    if (wasEmpty) draft.see(this.page.detail, this.knownVersion);
    draft.text = box.value;
    if (draft.isEmpty) Object.assign(draft, { status: "", tags: [], takes: true, failure: "" }); // a draft that was thrown away changes nothing
    if (draft.isEmpty !== wasEmpty) this.page.requestUpdate();
    if (draft.isEmpty) this.page.presence.rest();
    else this.page.presence.typed();
    this.keep();
    if (this.suggestions || /[;@]/.test(draft.text)) this.suggest(box);
  }

  /** Until the list is there that Enter and Tab may choose from. @type {Promise<void> | null} */
  suggesting = null;

  /** @param {HTMLTextAreaElement} box */
  async suggest(box) {
    const suggesting = (this.suggesting = this.follow(box));
    await suggesting.finally(() => {
      if (this.suggesting === suggesting) this.suggesting = null;
    });
  }

  async loadSuggestions() {
    const { Suggestions } = await import("./suggestions.js");
    this.suggestions ??= new Suggestions(this);
    return this.suggestions;
  }

  /** @param {HTMLTextAreaElement} box */
  async follow(box) {
    const isNote = this.mode === "internal";
    const suggestions = this.suggestions ?? (await this.loadSuggestions());
    await suggestions.follow(box, isNote); // before the next key is handled, once the list is there
  }

  async openMacros() {
    this.opened = true;
    await holdingKeys(async () => (await this.loadSuggestions()).openMacros(this.box), () => this.isShown);
  }

  /** @param {KeyboardEvent} event */
  keydown(event) {
    if (event.defaultPrevented || event.isComposing || this.suggestions?.key(event, this.caseId)) return;
    const { key, ctrlKey, metaKey, altKey, shiftKey } = event;
    const { suggesting } = this;
    if (suggesting && (key === "Enter" || key === "Tab") && !hasModifier(event)) {
      event.preventDefault();
      holdingKeys(() => suggesting, () => this.isShown, event);
      return;
    }
    if (key === "Escape") return this.leave();
    if (key !== "Enter" || !(ctrlKey || metaKey || altKey)) return;
    event.preventDefault();
    if (event.repeat) return;
    const end = this.endOf(this.mode === "internal");
    if (altKey) /** @type {import("./choice-menu.js").ChoiceMenu | null} */ (this.page.querySelector(".composer choice-menu"))?.open();
    else this.send(shiftKey ? { ...end, next: true } : end);
  }

  /** @param {Iterable<File>} files */
  async attach(files) {
    if (!can("attachments:write")) return;
    const { mode } = this;
    (await this.loadFiles()).add(this.caseId, files, mode);
  }

  /** Take up the files of the drafts: from before a reload, or as they are if their writer has looked at another case. */
  async loadFiles() {
    const { filesOf } = await import("./file-list.js");
    const kept = { public: this.drafts.public.files, internal: this.drafts.internal.files };
    const files = (this.files = filesOf(this.storedName, this.caseId, kept));
    files.changed = () => {
      for (const mode of /** @type {const} */ (["public", "internal"])) this.drafts[mode].files = files.kept(mode);
      this.keep();
      this.page.requestUpdate();
    };
    files.changed();
    return files;
  }

  /**
   * Send the message, after the one before it. Whatever becomes of it, the keys that follow are for the conversation.
   * @param {End} end
   * @param {{evenIfChanged?: boolean}} [options] `evenIfChanged`: also if the case has changed since the draft began
   */
  async send(end, { evenIfChanged = false } = {}) {
    const { draft, mode } = this;
    if (draft.isEmpty || this.isBlocked || draft.sending) return;
    this.leave();
    draft.failure = "";
    const attempt = { draft, mode, end };
    draft.sending = this.post(attempt, evenIfChanged, this.underWay).finally(() => (draft.sending = null));
    const done = this.complete(attempt, draft.takes && this.mayTake(mode));
    this.underWay = done;
    this.page.presence.rest();
    this.page.requestUpdate();
    await done;
    if (this.underWay === done) this.underWay = null;
    this.page.requestUpdate();
  }

  /** Do what follows a message that is sent, or say why it is not. @param {Attempt} attempt @param {boolean} takes */
  async complete(attempt, takes) {
    const { draft, mode } = attempt;
    let outcome;
    try {
      outcome = await draft.sending;
    } catch (failure) {
      const isChanged = failure instanceof Problem && failure.code === "case_changed";
      if (isChanged && this.isShown && this.page.isResting) return this.page.run("askAboutChange", attempt, failure);
      return this.explain(failure, attempt);
    }
    if (typeof outcome === "string") {
      if (this.isShown) await this.page.run("correct", attempt, outcome);
      return;
    }
    if (!outcome) return;
    const { end } = attempt;
    toast(await this.finish(draft, takes, end.status ?? "", t(mode === "internal" ? "composer.note_added" : "composer.sent")));
    if (this.isShown) await this.page.afterSending(end).catch((failure) => this.page.set({ message: explain(failure) }));
  }

  /** Say why a message is not sent, also to a writer who has gone on to another case. @param {unknown} failure @param {Attempt} attempt */
  async explain(failure, { draft, mode }) {
    const isReused = failure instanceof Problem && failure.code === "idempotency_key_reused";
    draft.failure = isReused ? t("composer.sent_before") : t(`composer.${mode}_not_sent`, { reason: explain(failure) });
    if (!this.isShown) toast({ text: [text(draft.seenDetail?.subject), draft.failure].filter(Boolean).join(": "), isError: true });
    this.page.requestUpdate();
    if (!isReused) return;
    draft.key = newKey(); // its answer was lost, and it was changed since
    this.keep();
    if (this.isShown) await this.page.followChange();
  }

  /** Return a part that looks like a mistake, if the writer wants to correct it after a question. @param {Draft} draft */
  async findMistake(draft) {
    const asks = async (/** @type {RegExp} */ pattern, /** @type {"gap" | "mention"} */ kind) => {
      const parts = [...new Set(draft.text.match(pattern))].filter((part) => !draft.intended.has(part));
      const names = parts.join(", ");
      const isRefused = kind === "gap" && parts.some((part) => isVariable(part.slice(2, -2).trim()));
      if (!parts.length) return "";
      const question = { title: t(`composer.${kind}`), text: t(`composer.${kind}_text`, { names }), no: t("question.edit"), yes: isRefused ? undefined : t("question.send") };
      if (!(await this.page.confirm(question))) return parts[0];
      for (const part of parts) draft.intended.add(part);
      return "";
    };
    return (await asks(GAP, "gap")) || asks(MENTION, "mention");
  }

  /** Ask whether to send without the files that are not stored. @param {Mode} mode */
  async mayLeaveOut(mode) {
    const missing = this.files?.missing(mode) ?? [];
    if (!missing.length) return true;
    const text = t("composer.without_files_text", { names: missing.map(({ file }) => file.name).join(", ") });
    return this.page.confirm({ title: t("composer.without_files"), text, yes: t("composer.send_without") });
  }

  /**
   * Return whether the message was sent, or the part that its writer corrects first.
   * @param {Attempt} attempt
   * @param {boolean} evenIfChanged
   * @param {Promise<void> | null} before the messages before it
   */
  async post(attempt, evenIfChanged, before) {
    const { draft, mode } = attempt;
    const isFilled = await this.suggestions?.filling;
    if (isFilled === false) return false; // the macro says why
    if (isFilled && draft.status) attempt.end = { ...attempt.end, status: draft.status }; // as the button says by now
    if (!evenIfChanged) {
      const mistake = mode === "public" && me.role !== "customer" ? await this.findMistake(draft) : "";
      if (mistake || !(await this.mayLeaveOut(mode))) return mistake || false;
    }
    await before;
    const files = this.files?.stored(mode) ?? [];
    const body = {
      authorType: me.role === "customer" ? "customer" : "agent",
      message: draft.text.trim(),
      visibility: mode,
      attachmentIds: files.map(({ stored }) => stored.id),
    };
    const seen = evenIfChanged ? this.page.version : draft.seen;
    await request(`${this.path}/messages`, { method: "POST", body, ifMatch: tagOf(seen), key: draft.key });
    this.forget(draft, mode);
    this.files?.leaveOut(files);
    this.noteOwnChange({ from: seen, to: seen + 1 });
    return true;
  }

  /** Forget a draft that was sent, also where its writer has come back to the case meanwhile. @param {Draft} sent @param {Mode} mode */
  forget({ key }, mode) {
    const { current } = this;
    for (const each of [this, current]) if (each.drafts[mode].key === key) each.drafts[mode] = new Draft();
    current.keep();
    this.page.requestUpdate();
  }

  /** Whether the case is unassigned, so that a reply assigns it to its writer. @param {Mode} mode */
  mayTake(mode) {
    return mode === "public" && !this.isBlocked && can("cases:write") && !this.page.detail.assignedAgentId;
  }

  /**
   * Set the status and the tags that a sent message came with, and who has the case. Return what to say of it, with what undoes the change.
   * @param {Draft} draft
   * @param {boolean} takes
   * @param {string} status
   * @param {string} sent what to say of the message itself
   * @returns {Promise<import("./toast.js").Toast>}
   */
  async finish({ tags }, takes, status, sent) {
    if (!can("cases:write") || (!status && !tags.length && !takes)) return { text: sent };
    try {
      const { data, etag } = await request(`${this.path}?messagesLimit=1`);
      const missing = tags.filter((tag) => !data.tags.includes(tag));
      const body = {
        ...(status && status !== data.status ? { status } : {}),
        ...(missing.length ? { tags: [...data.tags, ...missing] } : {}),
        ...(takes && !data.assignedAgentId ? { assignedAgentId: agent() } : {}),
      };
      if (!Object.keys(body).length) return { text: sent };
      const [{ change }, { nameOfValue, undo: undoChange }] = await Promise.all([import("./case-changes.js"), import("./case-actions.js")]);
      const { versions, undo } = await change(this.caseId, data, body, etag);
      this.noteOwnChange(versions);
      const { tags: _, ...told } = body;
      const changes = Object.entries(told).map(([name, value]) => `${word("field", name)}: ${nameOfValue(this.page, name, value)}`);
      return { text: [sent, ...changes].join(". "), undone: changes.join(". ") || word("field", "tags"), undo: () => undoChange(this.page, this, undo) };
    } catch (failure) {
      return { text: t("composer.only_message", { reason: explain(failure) }), isError: true };
    }
  }

  /** @param {{name: string, state: string}[]} viewers */
  render(viewers) {
    if (!can("messages:write")) return nothing;
    const isNote = this.mode === "internal";
    const typing = viewers.filter(({ state }) => state === "typing").map(({ name }) => nameIn(this.page.detail.names, name) ?? name);
    return html`
      <p class="typing" role="status">${typing.length ? t("composer.typing", { names: typing.join(", "), n: typing.length }) : nothing}</p>
      <section
        class="composer"
        data-mode=${this.mode}
        ?data-open=${this.isOpen}
        aria-label=${t("composer.title")}
        @focusin=${(/** @type {FocusEvent} */ event) => this.focused(event)}
        @focusout=${(/** @type {FocusEvent} */ event) => this.blurred(event)}
        @keydown=${(/** @type {KeyboardEvent} */ event) => this.keydown(event)}
      >
        ${this.suggestions?.render(this.caseId)}
        <div class="modes" role="group" aria-label=${t("composer.mode")}>
          ${this.tab("public", t("composer.reply"))} ${me.role === "customer" ? nothing : this.tab("internal", t("composer.note"))}
          <span class="muted hint">${isNote ? t("composer.note_hint") : this.isBlocked ? t("composer.duplicate_hint") : t("composer.reply_hint")}</span>
          ${can("macros:read") ? html`<button type="button" class="macro" @click=${() => this.openMacros()}>${t("composer.macro")} <kbd>;</kbd></button>` : nothing}
        </div>
        ${repeat([this.mode], (mode) => mode, () => this.textBox(isNote))} ${this.files?.render(this.mode)} ${this.chips()}
        <div class="actions">
          <label class="button file-button">
            ${t("files.add")}
            <input type="file" multiple @change=${(/** @type {any} */ event) => this.chosen(event.target)} />
          </label>
          <span class="grow">
            ${Object.values(this.drafts).map(({ failure }) => (failure ? html`<span class="error" role="alert">${failure}</span> ` : nothing))}
            ${this.isKept ? nothing : html`<span class="warning" role="status">${t("composer.not_kept")}</span>`}
            ${this.suggestions?.message ? html`<span class="warning" role="status">${this.suggestions.message}</span>` : nothing}
          </span>
          ${this.isBlocked ? html`<a class="button" href="/console/cases/${encodeURIComponent(this.original ?? "")}">${t("composer.original")}</a>` : this.sending(isNote)}
        </div>
      </section>
    `;
  }

  /** @param {Mode} mode @param {string} text */
  tab(mode, text) {
    return html`<button type="button" aria-pressed=${mode === this.mode} ?data-draft=${!this.drafts[mode].isEmpty} @click=${() => this.choose(mode)}>${text}</button>`;
  }

  /** Each kind of message has a box of its own: undoing in one can't bring back the text of the other. @param {boolean} isNote */
  textBox(isNote) {
    return html`<textarea
      id="composer"
      rows=${this.isOpen ? 4 : 1}
      dir="auto"
      maxlength="65536"
      aria-label=${isNote ? t("composer.note") : t("composer.reply")}
      aria-autocomplete="list"
      aria-controls=${this.suggestions ? "suggestions" : nothing}
      aria-activedescendant=${this.suggestions?.activeId ?? nothing}
      placeholder=${t(`composer.${isNote ? "note" : "reply"}_${wide.matches || this.isOpen ? "placeholder" : "short"}`)}
      ?readonly=${this.isBlocked || Boolean(this.draft.sending)}
      .value=${this.draft.text}
      @input=${(/** @type {any} */ event) => this.input(event)}
      @paste=${(/** @type {any} */ event) => this.paste(event)}
      @blur=${() => this.suggestions?.close()}
    ></textarea>`;
  }

  /** What happens to the case when the message is sent. Each can be taken off. */
  chips() {
    const { draft } = this;
    const takes = draft.takes && this.isOpen && this.mayTake(this.mode);
    if (!draft.tags.length && !draft.status && !takes) return nothing;
    const change = (/** @type {Partial<Draft>} */ changes) => {
      Object.assign(draft, changes);
      this.keep();
      this.page.requestUpdate();
      this.box?.focus();
    };
    return html`<p class="tags draft-chips">
      <span class="muted">${t("composer.then")}</span>
      ${takes
        ? html`<span class="tag">${t("composer.take")}<button class="plain" aria-label=${t("composer.no_take")} @click=${() => change({ takes: false })}>×</button></span>`
        : nothing}
      ${draft.status
        ? html`<span class="tag"
            >${word("status", draft.status)}<button class="plain" aria-label=${t("composer.no_status", { status: word("status", draft.status) })} @click=${() => change({ status: "" })}>×</button></span
          >`
        : nothing}
      ${draft.tags.map(
        (tag) => html`<span class="tag"><bdi>${tag}</bdi><button class="plain" aria-label=${t("composer.no_tag", { tag })} @click=${() => change({ tags: draft.tags.filter((each) => each !== tag) })}>×</button></span>`,
      )}
    </p>`;
  }

  /** The key of a way to send: the button has the first one, and the same with the next case the second. @param {End} end @param {End} ofButton */
  keyOf({ status, next }, ofButton) {
    if (status !== ofButton.status) return "";
    return next === ofButton.next ? "Ctrl + Enter" : next ? "Ctrl + Shift + Enter" : "";
  }

  /** What the button does after the message, and Ctrl+Enter. @param {boolean} isNote @returns {End} */
  endOf(isNote) {
    const { status } = this.draft;
    if (status || isNote || !can("cases:write")) return { status, next: false };
    return endNamed(ENDS.includes(load(CHOSEN_END)) ? load(CHOSEN_END) : DEFAULT_END);
  }

  /** @param {boolean} isNote */
  sending(isNote) {
    const end = this.endOf(isNote);
    return html`<span class="split">
      <button class="primary send" aria-disabled=${this.busy} title="Ctrl + Enter" @click=${() => this.send(end)}>${this.nameOf(end, isNote)}</button>
      ${isNote || !can("cases:write")
        ? nothing
        : html`<choice-menu
            title="${t("composer.other_ends")} (Alt + Enter)"
            .name=${t("composer.other_ends")}
            .items=${ENDS.map((each, index) => ({ value: each, text: this.nameOf(endNamed(each), false), detail: this.keyOf(endNamed(each), end), digit: index + 1 }))}
            @choose=${(/** @type {CustomEvent<string>} */ { detail }) => this.sendWith(detail)}
          ></choice-menu>`}
    </span>`;
  }

  /** Send, and do the same with the next reply. @param {string} name */
  sendWith(name) {
    save(CHOSEN_END, name);
    this.page.requestUpdate();
    this.send(endNamed(name));
  }

  /** @param {End} end @param {boolean} isNote */
  nameOf({ status, next }, isNote) {
    const isNew = status && status !== this.page.detail.status;
    const values = { status: word("status", status) };
    if (next) return status ? t("composer.send_and_next", values) : t("composer.send_next");
    if (isNote) return isNew ? t("composer.add_note_and", values) : t("composer.add_note");
    return isNew ? t("composer.send_and", values) : t("composer.send");
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

/** @param {string} name @returns {End} */
function endNamed(name) {
  const [status, next] = name.split("-");
  return { status, next: next === "next" };
}
