// Keeps back what a server says while it starts.
//
// Used by main.ts for the servers that it chooses itself: when one does not start, its last words are part of
// the one line that says so, and need not stand above it too.

import { printable } from '../nbd/text.js';
import type { Report } from '../session/settings.js';

/** Bytes that are kept. */
const LIMIT = 65_536;

/** A server's words, kept back. */
export interface Held {
  /** Keeps back what the server says. */
  readonly report: Report;
  /** Passes on what was kept back, and what comes. */
  release(): void;
  /** Passes it on unless `message` has its end. */
  explain(message: string): void;
}

/** A report like `report`, whose server is silent until `release` is called. */
export function holdServer(report: Report): Held {
  const held: Buffer[] = [];
  let length = 0;
  let isHeld = true;
  const serverSaid = (chunk: Buffer): void => {
    if (!isHeld) report.serverSaid(chunk);
    else if (length < LIMIT) {
      held.push(chunk);
      length += chunk.length;
    }
  };
  const release = (): void => {
    isHeld = false;
    for (const chunk of held.splice(0)) report.serverSaid(chunk);
  };
  const explain = (message: string): void => {
    const last = Buffer.concat(held).toString().trim().split('\n').at(-1) ?? '';
    if (!message.includes(printable(last))) release();
  };
  return { report: { ...report, serverSaid }, release, explain };
}
