// Messages to the user: one line each on standard error, `nbdfuse: what failed: why`.
//
// Used by main.ts and, as the interface Report, by the session. Never throws: when nobody reads
// standard error any more, messages are lost and work goes on. Written synchronously, so that a
// message is out before the process ends.

import { printable } from '../nbd/text.js';
import { writeToStderr } from '../os/stderr.js';
import type { Report } from '../session/settings.js';

/** Bytes of a message that are shown. */
const LINE_LIMIT = 4096;

/** A report that writes lines by `write`, and details when `verbose`. */
export function createReport(verbose: boolean, write: (text: string) => void = writeToStderr): Report {
  const line = (text: string): void => write(`nbdfuse: ${printable(text, LINE_LIMIT)}\n`);
  const detail = verbose ? line : () => undefined;
  return { line, detail, error: (error) => reportError(line, detail, error) };
}

function reportError(line: (text: string) => void, detail: (text: string) => void, error: unknown): void {
  if (!(error instanceof Error)) {
    line(String(error));
    return;
  }
  line(error.message === '' ? error.name : error.message);
  for (const frame of (error.stack ?? '').split('\n').filter((text) => /^\s+at /.test(text))) {
    detail(frame.trim());
  }
  if (error.cause instanceof Error) detail(`caused by ${error.cause.message}`);
}
