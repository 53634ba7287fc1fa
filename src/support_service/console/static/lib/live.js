/**
 * One stream of changes for all tabs of a user in a browser.
 *
 * The tab that holds a lock reads the stream and passes what it gets to the others on a channel; when it closes, the
 * next tab gets the lock and goes on from the same position. (A SharedWorker can't be started under the content policy:
 * `new SharedWorker` needs a trusted script URL, and the policy allows none.)
 */

import { agent, can, leaveForSignIn, me, request } from "./api.js";

const STREAM = "/support/stream";
const SILENCE = 30_000; // ms without a byte after which the stream counts as lost; heartbeats come every 15 s
const FIRST_PAUSE = 1_000; // ms before the first new attempt
const LONGEST_PAUSE = 30_000;
const PRESENCE_INTERVAL = 10_000; // ms
const TYPING = 6_000; // ms after a key for which a writer counts as typing

/** @typedef {{type: string, data: any, id: string}} StreamEvent the data is null if it only tells the position */
/** @typedef {{name: string, state: string}} Viewer */

const KINDS = ["presence", "notification", "resync"]; // all other events are changes of cases

/** Dispatches `change`, `presence`, `notification` and `resync` events with the stream's data, and `state` when it comes or goes. */
class Live extends EventTarget {
  /** @type {"off" | "connecting" | "live" | "away"} */
  state = "off";
  /** When the stream was last known to be complete. */
  asOf = new Date();
  position = "";
  /** @type {Map<string, Viewer[]>} who views each case, as far as this connection has told */
  viewers = new Map();
  /** @type {BroadcastChannel | null} */
  channel = null;

  /** Start to follow the stream, if the caller may. */
  start() {
    if (this.channel || !can("stream:read")) return;
    const name = `support-console-stream:${me.name}`; // another user may have signed in in another tab
    this.channel = new BroadcastChannel(name);
    this.channel.onmessage = ({ data }) => this.receive(data);
    this.channel.postMessage({ kind: "hello" });
    this.setState("connecting");
    const lead = () => this.lead();
    if (navigator.locks) navigator.locks.request(name, lead);
    else lead();
  }

  /** @param {any} message of another tab */
  receive(message) {
    if (message.kind === "state") {
      this.viewers = message.viewers;
      this.setState(message.state, new Date(message.asOf));
    }
    else if (message.kind === "event") this.handleEvent(message.event);
    else if (message.kind === "hello" && this.leading) this.shareState();
  }

  /** Return the others who view a case. @param {string} caseId */
  othersIn(caseId) {
    return (this.viewers.get(caseId) ?? []).filter(({ name }) => name !== me.name && name !== agent());
  }

  leading = false;
  /** ms to wait after the end of a connection, as the service wants it: a replica that shuts down spreads its clients. */
  wantedPause = FIRST_PAUSE;

  /** Read the stream for as long as this tab lives. */
  async lead() {
    this.leading = true;
    let pause = FIRST_PAUSE;
    for (;;) {
      this.wantedPause = FIRST_PAUSE;
      const wasLive = await this.follow();
      if (this.state !== "away") this.setSharedState("away");
      pause = wasLive ? this.wantedPause : Math.min(2 * pause, LONGEST_PAUSE);
      await new Promise((resume) => setTimeout(resume, pause * (0.5 + Math.random() / 2)));
    }
  }

  /** Read one connection to its end. Return whether it was open. */
  async follow() {
    const stop = new AbortController();
    let heard = Date.now();
    let isOpen = false;
    const watch = setInterval(() => Date.now() - heard > SILENCE && stop.abort(), 5_000);
    try {
      /** @type {Record<string, string>} */
      const headers = { Accept: "text/event-stream" };
      if (this.position) headers["Last-Event-ID"] = this.position;
      const response = await fetch(STREAM, { headers, signal: stop.signal, cache: "no-store" });
      if (response.status === 401) leaveForSignIn();
      if (!response.ok || !response.body) return false;
      isOpen = true;
      this.viewers = new Map(); // the connection begins with the cases that are being viewed
      this.setSharedState("live");
      const parser = new EventParser({
        event: (event) => {
          this.channel?.postMessage({ kind: "event", event });
          this.handleEvent(event);
        },
        comment: (text) => this.handleComment(text),
        retry: (pause) => (this.wantedPause = pause),
      });
      for await (const chunk of chunks(response.body.pipeThrough(new TextDecoderStream()))) {
        heard = Date.now();
        if (this.state === "live") this.asOf = new Date();
        parser.push(chunk);
      }
      return true;
    } catch {
      return isOpen;
    } finally {
      clearInterval(watch);
    }
  }

  /** Note that the service has lost sight of changes of other replicas, or has found them again. @param {string} comment */
  handleComment(comment) {
    if (comment.startsWith("interrupted") && this.state === "live") this.setSharedState("away");
    else if (comment.startsWith("continued") && this.state === "away") this.setSharedState("live");
  }

  /** @param {StreamEvent} event */
  handleEvent(event) {
    if (event.id) this.position = event.id;
    if (event.data === null && event.type !== "resync") return;
    if (event.type === "presence") this.viewers.set(event.data.caseId, event.data.viewers);
    this.dispatchEvent(new CustomEvent(KINDS.includes(event.type) ? event.type : "change", { detail: event.data }));
  }

  /**
   * @param {Live["state"]} state
   * @param {Date} [asOf]
   */
  setState(state, asOf = this.asOf) {
    this.state = state;
    this.asOf = asOf;
    this.dispatchEvent(new Event("state"));
  }

  /** @param {Live["state"]} state */
  setSharedState(state) {
    this.setState(state, state === "live" ? new Date() : this.asOf);
    this.shareState();
  }

  shareState() {
    this.channel?.postMessage({ kind: "state", state: this.state, asOf: this.asOf.getTime(), viewers: this.viewers });
  }
}

/** Reads server-sent events from pieces of text. */
class EventParser {
  rest = "";

  /** @param {{event: (event: StreamEvent) => void, comment: (text: string) => void, retry: (ms: number) => void}} found */
  constructor(found) {
    this.found = found;
  }

  /** @param {string} text */
  push(text) {
    const parts = (this.rest + text).split(/\r?\n\r?\n/);
    this.rest = parts.pop() ?? "";
    for (const part of parts) this.read(part.split(/\r?\n/));
  }

  /** @param {string[]} lines of one event */
  read(lines) {
    const event = { type: "message", data: "", id: "" };
    for (const line of lines) {
      if (line.startsWith(":")) this.found.comment(line.slice(1).trim());
      const [, name, value] = /^(\w+): ?(.*)$/.exec(line) ?? [];
      if (name === "event") event.type = value;
      else if (name === "id") event.id = value;
      else if (name === "retry") this.found.retry(Number(value));
      else if (name === "data") event.data += event.data ? `\n${value}` : value;
    }
    if (event.data || event.id || event.type === "resync") this.found.event({ ...event, data: event.data ? JSON.parse(event.data) : null });
  }
}

/** @param {ReadableStream<string>} stream */
async function* chunks(stream) {
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

export const live = new Live();

/**
 * Tells other agents who views a case, and who writes: at once when that changes or ends, and again while it lasts,
 * because the service forgets it after 15 s.
 */
export class Presence {
  caseId = "";
  /** @type {"viewing" | "typing"} */
  state = "viewing";
  /** @type {ReturnType<typeof setInterval> | undefined} */
  timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  pause;

  constructor() {
    window.addEventListener("pagehide", () => this.leave()); // a page that comes back from the cache of the browser tells it again
  }

  /** @param {string} caseId */
  start(caseId) {
    this.stop();
    if (!can("presence:write")) return;
    this.caseId = caseId;
    this.send();
    this.timer = setInterval(() => document.hidden || this.send(), PRESENCE_INTERVAL);
  }

  /** Note that a key was pressed. */
  typed() {
    clearTimeout(this.pause);
    this.pause = setTimeout(() => this.become("viewing"), TYPING);
    this.become("typing");
  }

  /** Note that nothing is being written any more. */
  rest() {
    clearTimeout(this.pause);
    this.become("viewing");
  }

  /** @param {Presence["state"]} state */
  become(state) {
    if (state === this.state) return;
    this.state = state;
    if (this.caseId) this.send();
  }

  /** Tell that the case is left, also while the page is being closed. */
  leave() {
    if (this.caseId) request(this.path, { method: "DELETE", keepalive: true }).catch(() => {});
  }

  send() {
    request(this.path, { method: "PUT", body: { state: this.state } }).catch(() => {});
  }

  get path() {
    return `/support/cases/${encodeURIComponent(this.caseId)}/presence`;
  }

  stop() {
    this.leave();
    clearInterval(this.timer);
    clearTimeout(this.pause);
    Object.assign(this, { caseId: "", state: "viewing" });
  }
}
