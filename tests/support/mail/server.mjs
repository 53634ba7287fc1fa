/**
 * A mail server for tests: `node server.mjs PORT FOLDER`. It delivers each mail to the Maildir FOLDER before it accepts it.
 *
 * Mail to `nobody@…` is refused, and mail to `full@…` for the moment. While FOLDER has a file `busy`, all mail is refused for the moment.
 */

import { existsSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { SMTPServer } from "smtp-server";

const [, , port, folder] = process.argv;
for (const name of ["tmp", "new", "cur"]) mkdirSync(join(folder, name), { recursive: true });
let delivered = 0;

const refusal = (responseCode, text) => Object.assign(new Error(text), { responseCode });

const refusals = { nobody: refusal(550, "5.1.1 there is no such mailbox"), full: refusal(452, "4.2.2 the mailbox is full") };

const server = new SMTPServer({
  authOptional: true,
  disabledCommands: ["STARTTLS"],
  disableReverseLookup: true,
  onMailFrom: (_address, _session, done) => done(existsSync(join(folder, "busy")) ? refusal(451, "try again later") : null),
  onRcptTo: ({ address }, _session, done) => done(refusals[address.split("@")[0]] ?? null),
  async onData(stream, { envelope }, done) {
    const mail = await buffer(stream);
    const name = `${Date.now()}.${process.pid}_${String(delivered++).padStart(6, "0")}.test`;
    const trace = `Return-Path: <${envelope.mailFrom.address || ""}>\r\nDelivered-To: ${envelope.rcptTo[0].address}\r\n`;
    writeFileSync(join(folder, "tmp", name), Buffer.concat([Buffer.from(trace), mail]), { flush: true });
    renameSync(join(folder, "tmp", name), join(folder, "new", name));
    done();
  },
});
server.listen(Number(port), "127.0.0.1");
