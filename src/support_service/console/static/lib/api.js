/** Requests to the public API, and who makes them. Failures are `Problem`s; a session that has ended leads to the sign-in. */

import { t, text, word } from "./i18n.js";
import { load, save } from "./storage.js";

/**
 * @typedef {{method?: string, body?: unknown, key?: string, ifMatch?: string | null, isNew?: boolean, signal?: AbortSignal, keepalive?: boolean}} Options
 * @typedef {{data: any, etag: string | null, status: number}} Answer
 */

/** A refusal of the service, or a request without an answer (`code` is `no_answer`). */
export class Problem extends Error {
  /** @param {{status: number, code: string, detail: string, [member: string]: any}} members */
  constructor(members) {
    super(members.detail);
    this.status = members.status;
    this.code = members.code;
    this.members = members;
  }
}

const USER = "user"; // who is signed in
const NO_ANSWER = { status: 0, code: "no_answer", detail: "" };
const LONGEST = 60_000; // ms for which an answer is waited for

/**
 * Send a request, and return the parsed answer. With `isNew` it is refused if there is already what it would add.
 * @param {string} path
 * @param {Options} [options]
 * @returns {Promise<Answer>}
 */
export async function request(path, options = {}) {
  const { method = "GET", body, key, ifMatch, isNew, signal, keepalive } = options;
  /** @type {Record<string, string>} */
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  if (ifMatch) headers["If-Match"] = ifMatch;
  if (isNew) headers["If-None-Match"] = "*";
  const tooLong = new AbortController();
  const timer = setTimeout(() => tooLong.abort(), LONGEST);
  const either = signal ? AbortSignal.any([signal, tooLong.signal]) : tooLong.signal;
  let response, data;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal: either, keepalive });
    data = await parse(response);
  } catch (failure) {
    if (signal?.aborted) throw failure;
    throw new Problem(NO_ANSWER);
  } finally {
    clearTimeout(timer);
  }
  if (!response.ok) throw refusal(response.status, data);
  if (data === null && response.status !== 204) throw new Problem(NO_ANSWER); // a proxy has answered instead, or half of it was lost
  return { data, etag: response.headers.get("ETag"), status: response.status };
}

/**
 * Return the problem of a refused request.
 * @param {number} status
 * @param {any} data the parsed body
 */
export function refusal(status, data) {
  if (status === 401) leaveForSignIn();
  return new Problem({ detail: "", code: `http_${status}`, ...data, status });
}

let isLoggingOut = false;

/** End the session here, and lead to the logout of the provider. */
export function logOut() {
  isLoggingOut = true;
  location.assign("/console/logout");
}

/** Go to the sign-in, and come back to this page from there. */
export function leaveForSignIn() {
  if (location.pathname === "/console/sign-in" || isLoggingOut) return; // the logout ends the stream before it leaves the page
  location.assign(`/console/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
}

/**
 * Return the version in an entity tag, `"7"` or `"7.request"`.
 * @param {string | null} etag
 */
export function versionOf(etag) {
  return Number(/^"(\d+)/.exec(etag ?? "")?.[1] ?? 0);
}

/** @param {number} version */
export function tagOf(version) {
  return `"${version}"`;
}

/** Return a new idempotency key. `crypto.randomUUID` is missing on plain-HTTP hosts. */
export function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Return a query; a parameter with a list is repeated, and an empty one is left out.
 * @param {Record<string, string | string[] | number | null | undefined>} parameters
 */
export function query(parameters) {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") given.append(name, String(each));
    }
  }
  return given.toString();
}

/** @param {Response} response */
async function parse(response) {
  if (response.status === 204 || !response.headers.get("Content-Type")?.includes("json")) return null;
  const body = await response.text();
  try {
    return JSON.parse(body);
  } catch {
    return null;
  }
}

/** Whether a failure is that of a part of a page which could not be loaded. @param {unknown} failure */
export function isUnloaded(failure) {
  return /dynamically imported module/.test(String(failure));
}

/**
 * Return a failure in plain words: a text by the problem's code, or else the service's own sentence.
 * @param {unknown} failure
 */
export function explain(failure) {
  if (isUnloaded(failure)) return word("problem", NO_ANSWER.code);
  if (!(failure instanceof Problem)) return String(failure);
  const known = word("problem", failure.code);
  if (known !== failure.code) return known;
  const { errors, detail } = failure.members; // of any kind, if a proxy answered
  const fields = Array.isArray(errors) ? errors.map((each) => `${text(each?.field)}: ${text(each?.message)}`).join("; ") : "";
  return fields || text(detail) || t("problem.unknown", { code: failure.code });
}

/** The caller and its permissions. @type {{name: string, role: string, subject: string | null, teams: string[], permissions: Record<string, string>}} */
export let me = { name: "", role: "", subject: null, teams: [], permissions: {} };

export async function loadMe() {
  me = (await request("/support/me")).data;
  save(USER, me.name);
  addEventListener("storage", ({ key }) => key?.endsWith(`:${USER}`) && load(USER) !== me.name && location.reload()); // another tab has signed out, or in as somebody else
}

/** @param {string} permission */
export function can(permission) {
  return permission in me.permissions;
}

/** Whether anyone may use the service: `SUPPORT_AUTH=open`. */
export function isOpen() {
  return document.documentElement.dataset.auth === "open";
}

/** Whether macros have such a variable. @param {string} name */
export function isVariable(name) {
  return (document.documentElement.dataset.variables ?? "").split(" ").includes(name);
}

/** Whether the caller can sign out here: not without authentication, nor where a proxy signs people in. */
export function hasSession() {
  return !["open", "proxy"].includes(document.documentElement.dataset.auth ?? "");
}

/** The agent that claimed cases are assigned to. Without authentication, users name themselves. */
export function agent() {
  return me.subject ?? (isOpen() ? load("working-as") : null) ?? me.name;
}

/** @param {string} name */
export function workAs(name) {
  save("working-as", name.trim() || null);
}
