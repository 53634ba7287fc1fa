/** The upload of one file: hashed here, sent with progress, and verified by the service. It waits there for its message. */

import { newKey, Problem, refusal, request } from "./api.js";

const MAX_HASHED_BYTES = 256 * 1024 * 1024; // a browser hashes a file in memory
const REFUSED = ["attachment_too_large", "type_not_allowed", "case_closed", "case_full", "permission_missing", "unreadable_file"];

/** @typedef {{name: string, size: number, hash: string, id?: string}} Kept what a draft keeps of a file; with an id if it is stored */
/** @typedef {"hashing" | "sending" | "verifying" | "stored" | "cancelled" | "failed"} State */

export class Upload {
  /** @type {State} */
  state = "hashing";
  share = 0;
  /** @type {Problem | null} */
  problem = null;
  /** @type {any} the stored attachment */
  stored = null;
  hash = "";
  /** Repeats have the same key, so that a file whose answer was lost is not stored twice. */
  key = newKey();
  /** @type {XMLHttpRequest | null} */
  sending = null;

  /**
   * @param {string} caseId
   * @param {File | Kept} file
   * @param {"public" | "internal"} mode of the message that it belongs to
   * @param {() => void} changed
   */
  constructor(caseId, file, mode, changed) {
    this.caseId = caseId;
    this.file = file;
    this.mode = mode;
    this.changed = changed;
  }

  /**
   * Take up a file of a draft. One that was not stored has no bytes any more.
   * @param {string} caseId
   * @param {Kept} kept
   * @param {"public" | "internal"} mode
   * @param {() => void} changed
   */
  static restore(caseId, kept, mode, changed) {
    const upload = new Upload(caseId, kept, mode, changed);
    const { id, hash } = kept;
    if (id) Object.assign(upload, { state: "stored", hash, stored: { id } });
    else Object.assign(upload, { state: "failed", problem: new Problem({ status: 0, code: "file_gone", detail: "" }) });
    return upload;
  }

  /** What a draft keeps of it. @returns {Kept} */
  get kept() {
    const { file, hash, stored } = this;
    return { name: file.name, size: file.size, hash, id: stored?.id };
  }

  get isDone() {
    return this.state === "stored" || this.state === "cancelled" || this.state === "failed";
  }

  /** Whether the service takes no file like this one: another attempt has the same end. */
  get isRefused() {
    return REFUSED.includes(this.problem?.code ?? "");
  }

  /** Whether another attempt is worthwhile. */
  get canRetry() {
    return this.file instanceof File && !this.isRefused && (this.state === "cancelled" || this.state === "failed");
  }

  /** Hash and send the file. Failures are kept in `problem`. */
  async run() {
    this.become("hashing");
    this.problem = null;
    this.share = 0;
    try {
      const file = /** @type {File} */ (this.file);
      this.hash ||= await sha256(file);
      if (/** @type {State} */ (this.state) === "cancelled") return;
      this.become("sending");
      this.stored = await this.send(file);
      this.become("stored");
    } catch (failure) {
      if (/** @type {State} */ (this.state) === "cancelled") return;
      this.problem = failure instanceof Problem ? failure : new Problem({ status: 0, code: "unreadable_file", detail: "" });
      this.become("failed");
    }
  }

  cancel() {
    if (this.isDone) return;
    this.become("cancelled");
    this.sending?.abort();
  }

  /** Delete the file that waits for its message. Return whether it is gone; a failure is kept in `problem`. */
  async discard() {
    if (!this.stored) return true;
    const path = `/support/cases/${encodeURIComponent(this.caseId)}/attachments/${this.stored.id}`;
    try {
      await request(path, { method: "DELETE" });
    } catch (failure) {
      if (!(failure instanceof Problem)) throw failure;
      if (failure.code !== "attachment_not_found") {
        this.problem = failure;
        this.changed();
        return false;
      }
    }
    return true;
  }

  /** @param {State} state */
  become(state) {
    this.state = state;
    this.changed();
  }

  /** @param {File} file @returns {Promise<any>} */
  send(file) {
    return new Promise((resolve, reject) => {
      const request = (this.sending = new XMLHttpRequest());
      request.open("POST", `/support/cases/${encodeURIComponent(this.caseId)}/attachments?staged=true`);
      request.setRequestHeader("Idempotency-Key", this.key);
      if (this.hash) request.setRequestHeader("X-Checksum-Sha256", this.hash);
      request.upload.onprogress = ({ loaded, total }) => {
        this.share = total ? loaded / total : 0;
        this.become(loaded < total ? "sending" : "verifying");
      };
      request.onload = () => {
        const data = parse(request.responseText);
        if (request.status < 300 && data) resolve(data);
        else reject(request.status < 300 ? new Problem({ status: 0, code: "no_answer", detail: "" }) : refusal(request.status, data));
      };
      request.onerror = () => reject(new Problem({ status: 0, code: "no_answer", detail: "" }));
      request.onabort = () => reject(new Problem({ status: 0, code: "cancelled", detail: "" }));
      const form = new FormData();
      form.append("file", file, file.name);
      request.send(form);
    });
  }
}

/** Return the SHA-256 of a file in hex; nothing where the browser can't compute it: then only the service does. @param {File} file */
async function sha256(file) {
  if (!crypto.subtle || file.size > MAX_HASHED_BYTES) return "";
  const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {string} text */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
