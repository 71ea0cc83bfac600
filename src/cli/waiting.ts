// A line about a wait that takes longer than a person expects.
//
// Used while a server does not answer, and by --unmount.

import { ANNOUNCE_AFTER } from '../constants/patience.js';
import type { Report, ServerMode } from '../session/settings.js';

/** Calls `announce` in two seconds, unless the returned function is called before. */
export function announceLater(announce: () => void): () => void {
  const timer = setTimeout(announce, ANNOUNCE_AFTER);
  return () => clearTimeout(timer);
}

/** Awaits `work`; after two seconds, `announce` says what it waits for. @throws the errors of `work` */
export async function announceWait<T>(work: Promise<T>, announce: () => void): Promise<T> {
  const end = announceLater(announce);
  try {
    return await work;
  } finally {
    end();
  }
}

/** Says that a server has not answered: to a person at a terminal, else as a detail. */
export async function announceServer(
  server: ServerMode,
  report: Pick<Report, 'line' | 'detail'>,
): Promise<void> {
  const { serverText } = await import('../session/connect/server-text.js');
  const text = `waiting for the server to answer: ${serverText(server)}`;
  if (process.stderr.isTTY) report.line(text, 'info');
  else report.detail(text);
}
