// The progress of a server that reads a compressed file to its end before the mount can begin.
//
// Used by main.ts. A line on a terminal, rewritten in place; with -v a line now and then elsewhere.

import { followChunkStatus } from '../session/chunk-status.js';
import type { Report } from '../session/settings.js';
import { progressText } from '../session/status-text.js';
import type { NbdServer } from '../transport/server.js';

/** Milliseconds between two lines of -v. */
const PERIOD = 10_000;

/** Back to the first column, and delete to the end of the line. */
const CLEAR = '\r\x1b[K';

/** A terminal or a file: standard error. */
export type ProgressOutput = Pick<NodeJS.WriteStream, 'isTTY' | 'write'>;

/** Shows the progress of a server until the returned function is called. @param begin called when there is some */
export function showProgress(
  server: Pick<NbdServer, 'controlPath'>,
  output: ProgressOutput,
  report: Pick<Report, 'detail'>,
  begin: () => void = () => undefined,
): () => void {
  const { controlPath } = server;
  if (controlPath === undefined) return () => undefined;
  let isShown = false;
  let last = performance.now();
  const stop = followChunkStatus(controlPath, ({ indexing }) => {
    if (indexing === undefined) return;
    begin();
    const text = `reading the compressed file once: ${progressText(indexing)}`;
    if (output.isTTY) {
      output.write(`${CLEAR}nbdfuse: ${text}`);
      isShown = true;
    } else if (performance.now() - last >= PERIOD) {
      last = performance.now();
      report.detail(text);
    }
  });
  return () => {
    stop();
    if (isShown) output.write(CLEAR);
    isShown = false;
  };
}
