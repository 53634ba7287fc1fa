/** The files that an agent adds to a case: chosen, dropped or pasted; each with its progress. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { explain } from "../lib/api.js";
import { size, t } from "../lib/i18n.js";
import { html } from "../lib/page.js";
import { Upload } from "../lib/upload.js";

const CONCURRENT_UPLOADS = 2;

export class FileList {
  /** @type {Upload[]} */
  uploads = [];

  /**
   * @param {() => void} changed
   * @param {(upload: Upload) => void} stored
   */
  constructor(changed, stored) {
    this.changed = changed;
    this.storedOne = stored;
  }

  /** The files that are in the case since the last message was sent. */
  get stored() {
    return this.uploads.filter((upload) => upload.state === "stored");
  }

  get isBusy() {
    return this.uploads.some((upload) => !upload.isDone);
  }

  /** @type {Upload[]} */
  queue = [];
  running = 0;

  /**
   * @param {string} caseId
   * @param {Iterable<File>} files
   * @param {"public" | "internal"} visibility
   */
  add(caseId, files, visibility) {
    for (const file of files) {
      const upload = new Upload(caseId, file, visibility, this.changed);
      this.uploads.push(upload);
      this.queue.push(upload);
    }
    this.next();
  }

  async next() {
    this.changed();
    while (this.running < CONCURRENT_UPLOADS && this.queue.length) {
      const upload = /** @type {Upload} */ (this.queue.shift());
      if (upload.isDone) continue;
      this.running += 1;
      upload.run().finally(() => {
        this.running -= 1;
        if (upload.state === "stored") this.storedOne(upload);
        this.next();
      });
    }
  }

  /** @param {Upload} upload */
  retry(upload) {
    upload.become("hashing");
    this.queue.push(upload);
    this.next();
  }

  /** @param {Upload} upload */
  remove(upload) {
    this.uploads = this.uploads.filter((each) => each !== upload);
    this.changed();
  }

  clearStored() {
    this.uploads = this.uploads.filter((each) => each.state !== "stored");
  }

  render() {
    if (!this.uploads.length) return nothing;
    return html`<ul class="uploads" aria-label=${t("files.title")}>
      ${this.uploads.map((upload) => this.line(upload))}
    </ul>`;
  }

  /** @param {Upload} upload */
  line(upload) {
    const { file, state, problem } = upload;
    const percent = Math.floor(upload.share * 100);
    return html`<li data-state=${state}>
      <bdi class="name">${file.name}</bdi> <span class="muted">${size(file.size)}</span>
      ${state === "sending" || state === "verifying"
        ? html`<progress max="100" .value=${percent} aria-label=${t("files.progress", { name: file.name })}></progress>`
        : nothing}
      <span class=${problem ? "error" : "state"} role=${upload.isDone ? "status" : nothing}>${problem ? explain(problem) : describe(upload, percent)}</span>
      ${upload.isDone
        ? html`${state === "stored" ? nothing : html`<button @click=${() => this.retry(upload)}>${t("files.retry")}</button>`}
            <button class="plain" aria-label=${t("files.remove", { name: file.name })} @click=${() => this.remove(upload)}>×</button>`
        : html`<button @click=${() => upload.cancel()} aria-label=${t("files.cancel_one", { name: file.name })}>${t("app.cancel")}</button>`}
    </li>`;
  }
}

/**
 * @param {Upload} upload
 * @param {number} percent
 */
function describe({ state, hash }, percent) {
  switch (state) {
    case "hashing":
      return t("files.hashing");
    case "sending":
      return `${percent} %`;
    case "verifying":
      return t("files.verifying");
    case "cancelled":
      return t("files.cancelled");
    default:
      return hash ? t("files.stored") : t("files.stored_by_server");
  }
}
