/** The files of the messages that are being written: chosen, dropped or pasted; each with its progress. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { explain } from "../lib/api.js";
import { size, t } from "../lib/i18n.js";
import { html } from "../lib/page.js";
import { Upload } from "../lib/upload.js";

const CONCURRENT_UPLOADS = 2;

/** @typedef {import("./composer.js").Mode} Mode */

/** The lists of this window, by draft: an upload goes on while its writer looks at another case. @type {Map<string, FileList>} */
const lists = new Map();

/**
 * Return the files of the drafts of a case.
 * @param {string} name of the drafts
 * @param {string} caseId
 * @param {Record<Mode, import("../lib/upload.js").Kept[]>} kept what the drafts have kept of them
 */
export function filesOf(name, caseId, kept) {
  let list = lists.get(name);
  if (!list) {
    lists.set(name, (list = new FileList()));
    for (const mode of /** @type {Mode[]} */ (Object.keys(kept))) list.restore(caseId, kept[mode], mode);
  }
  return list;
}

export class FileList {
  /** @type {Upload[]} */
  uploads = [];
  /** Called after each change. */
  changed = () => {};

  /** @param {Mode} mode */
  count(mode) {
    return this.uploads.filter((upload) => upload.mode === mode).length;
  }

  /** The files that a message names. @param {Mode} mode */
  stored(mode) {
    return this.uploads.filter((upload) => upload.mode === mode && upload.state === "stored");
  }

  /** The files that a message would leave out: they are not uploaded yet, or their upload failed. @param {Mode} mode */
  missing(mode) {
    return this.uploads.filter((upload) => upload.mode === mode && upload.state !== "stored" && upload.state !== "cancelled");
  }

  /** @type {Upload[]} */
  queue = [];
  running = 0;

  /**
   * @param {string} caseId
   * @param {Iterable<File>} files
   * @param {Mode} mode
   */
  add(caseId, files, mode) {
    for (const file of files) {
      const upload = new Upload(caseId, file, mode, () => this.changed());
      this.uploads.push(upload);
      this.queue.push(upload);
    }
    this.next();
  }

  /** @param {string} caseId @param {import("../lib/upload.js").Kept[]} kept @param {Mode} mode */
  restore(caseId, kept, mode) {
    this.uploads.push(...kept.map((each) => Upload.restore(caseId, each, mode, () => this.changed())));
  }

  /** What a draft keeps of its files; not of those that it can't have. @param {Mode} mode */
  kept(mode) {
    return this.uploads.filter((each) => each.mode === mode && each.state !== "cancelled" && !each.isRefused).map(({ kept }) => kept);
  }

  async next() {
    this.changed();
    while (this.running < CONCURRENT_UPLOADS && this.queue.length) {
      const upload = /** @type {Upload} */ (this.queue.shift());
      if (upload.isDone) continue;
      this.running += 1;
      upload.run().finally(() => {
        this.running -= 1;
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

  /** Take a file off the list, and delete it if it is stored. @param {Upload} upload */
  async remove(upload) {
    if (await upload.discard()) this.leaveOut([upload]);
  }

  /** @param {Upload[]} uploads */
  leaveOut(uploads) {
    this.uploads = this.uploads.filter((each) => !uploads.includes(each));
    this.changed();
  }

  /** @param {Mode} mode */
  render(mode) {
    const uploads = this.uploads.filter((each) => each.mode === mode);
    if (!uploads.length) return nothing;
    return html`<ul class="uploads draft-chips" aria-label=${t("files.title")}>
      ${uploads.map((upload) => this.line(upload))}
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
      <span class=${problem ? "error" : "progress-text"} role=${upload.isDone ? "status" : nothing}>${problem ? reasonOf(problem) : describe(upload, percent)}</span>
      ${upload.isDone
        ? html`${upload.canRetry ? html`<button @click=${() => this.retry(upload)}>${t("files.retry")}</button>` : nothing}
            <button class="plain" aria-label=${t("files.remove", { name: file.name })} @click=${() => this.remove(upload)}>×</button>`
        : html`<button @click=${() => upload.cancel()} aria-label=${t("files.cancel_one", { name: file.name })}>${t("app.cancel")}</button>`}
    </li>`;
  }
}

/** Return why a file is not stored; of one that is too large, with the limit that the service names. @param {import("../lib/api.js").Problem} problem */
function reasonOf(problem) {
  const { limitBytes } = problem.members;
  return problem.code === "attachment_too_large" && limitBytes ? t("files.too_large", { limit: size(limitBytes) }) : explain(problem);
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
