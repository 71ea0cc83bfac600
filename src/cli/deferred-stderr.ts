// Defers the standard error of a server while it starts.
//
// Used by main.ts for the servers of images: when one does not start, the error message quotes its last line, and the
// deferred lines need not appear as well.

import { printable } from '../nbd/text.js';
import type { Report } from '../session/settings.js';

/** Maximum bytes that are deferred. */
const LIMIT = 65_536;

/** The deferred standard error of a server. */
export interface DeferredStderr {
  /** Defers the server's output. */
  readonly report: Report;
  /** Writes the deferred output, and all later output at once. */
  release(): void;
  /** Writes the deferred output, unless `message` contains its last line. */
  explain(message: string): void;
}

/** Wraps `report`: server output is deferred until `release`. */
export function deferServerStderr(report: Report): DeferredStderr {
  const deferred: Buffer[] = [];
  let length = 0;
  let isDeferring = true;
  const serverSaid = (chunk: Buffer): void => {
    if (!isDeferring) report.serverSaid(chunk);
    else if (length < LIMIT) {
      deferred.push(chunk);
      length += chunk.length;
    }
  };
  const release = (): void => {
    isDeferring = false;
    for (const chunk of deferred.splice(0)) report.serverSaid(chunk);
  };
  const explain = (message: string): void => {
    const last = Buffer.concat(deferred).toString().trim().split('\n').at(-1) ?? '';
    if (!message.includes(printable(last))) release();
  };
  return { report: { ...report, serverSaid }, release, explain };
}
