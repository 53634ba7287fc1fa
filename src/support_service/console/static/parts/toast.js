/** One line at the bottom that says what was done, with a button that undoes it. `z` presses the button. */

import { render } from "../vendor/lit-element/lit-element.js";
import { explain, Problem } from "../lib/api.js";
import { html, onKeys } from "../lib/page.js";
import { t } from "../lib/i18n.js";

const SHOWN = 8_000; // ms, and for as long as the line has the focus or the pointer

/** @typedef {{text: string, undo?: () => Promise<unknown>, isError?: boolean, undone?: string}} Toast `undone` is what can be undone, if that is not all of the text */

/** @type {Toast | null} */
let current = null;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

const line = document.createElement("div"); // there before its text, so that the text is read aloud
line.className = "toast";
line.setAttribute("role", "status");
document.body.append(line);
/** Where the focus was before it came to the line. @type {HTMLElement | null} */
let before = null;
line.addEventListener("focusin", ({ relatedTarget }) => (before = /** @type {HTMLElement | null} */ (relatedTarget)));
for (const left of ["focusout", "pointerleave"]) line.addEventListener(left, wait);
document.addEventListener("keydown", onKeys({ z: undo }));

/** Show what was done, in place of what was said before. The focus stays where it is. @param {Toast} shown */
export function toast(shown) {
  current = shown;
  draw();
  wait();
}

function wait() {
  clearTimeout(timer);
  timer = setTimeout(() => (line.matches(":hover, :focus-within") ? wait() : hide()), SHOWN);
}

/** Say nothing any more: what is done next can't be taken for what the line offers to undo. */
export function hide() {
  if (line.contains(document.activeElement)) before?.focus();
  current = null;
  draw();
}

async function undo() {
  const undone = current;
  if (!undone?.undo) return;
  hide(); // a second press finds nothing to undo
  try {
    await undone.undo();
    if (!current) toast({ text: t("toast.undone", { text: undone.undone ?? undone.text }) });
  } catch (failure) {
    const isLost = failure instanceof Problem && failure.code === "no_answer"; // then it can be tried again
    toast({ text: explain(failure), isError: true, undo: isLost ? undone.undo : undefined });
  }
}

function draw() {
  line.classList.toggle("bad", Boolean(current?.isError));
  const { text, undo: isUndoable } = current ?? {};
  render(
    html`${text ? html`<bdi>${text}</bdi>` : ""}${isUndoable ? html` <button class="plain" @click=${undo}>${t("toast.undo")} <kbd>z</kbd></button>` : ""}`,
    line,
  );
}
