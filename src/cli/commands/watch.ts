// --status --watch: shows the activity of a mount every second.
//
// Called by main.ts. Pure functions make the texts. On a terminal it uses the alternate screen, as top(1) does, and
// prints its last sample when it ends.

import { setTimeout } from 'node:timers/promises';
import { printable } from '../../nbd/text.js';
import { styleFor } from '../../session/style.js';
import type { Watch } from '../arguments/arguments.js';
import { type MountedFile, mountedFiles, NoAnswerError, ServerGoneError } from './mounted.js';
import { panel } from './panel.js';
import { rateTable } from './rates.js';
import { statusAsJson } from './status.js';
import { printableStatus } from './status-shape.js';

/** Milliseconds between two samples of --watch. */
const PERIOD = 1000;

/** Seconds of traffic history that --watch keeps. */
const REMEMBERED = 500;

const WIDTH = 80;
const HEIGHT = 24;

/** Terminal codes: the alternate screen without cursor; the normal screen; the top of a cleared screen. */
const SECOND_SCREEN = '\x1b[?1049h\x1b[?25l';
const FIRST_SCREEN = '\x1b[?25h\x1b[?1049l';
const TOP = '\x1b[H\x1b[J';

const SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** Standard output. */
type Output = Pick<NodeJS.WriteStream, 'isTTY' | 'columns' | 'rows'>;

const bytesMoved = (files: readonly MountedFile[]): number =>
  files.reduce((sum, { status }) => sum + status.reads.bytes + status.writes.bytes, 0);

/** Draws the activity since the last sample: a panel for one file, a table for several. */
class View {
  readonly #output: Output;
  readonly #json: boolean;
  readonly #history: number[] = [];

  constructor(output: Output, json: boolean) {
    this.#output = output;
    this.#json = json;
  }

  draw(before: readonly MountedFile[], raw: readonly MountedFile[], seconds: number): string {
    if (this.#json) return statusAsJson(raw);
    const now = raw.map(({ path, status }) => ({ path, status: printableStatus(status) }));
    if (!this.#output.isTTY) return rateTable(before, now, seconds);
    const { columns = WIDTH, rows = HEIGHT } = this.#output;
    const style = styleFor(this.#output, process.env);
    this.#history.push(Math.max(0, bytesMoved(now) - bytesMoved(before)) / seconds);
    if (this.#history.length > REMEMBERED) this.#history.shift();
    const [file] = now;
    const [was = file] = before;
    if (now.length === 1) return panel(was, file, { style, columns, history: this.#history, seconds });
    const lines = rateTable(before, now, seconds, columns)
      .split('\n')
      .slice(0, rows - 1);
    return `${style.dim(lines[0])}\n${lines.slice(1).join('\n')}`;
  }
}

/**
 * Prints the activity every second, until a signal arrives, or the mount is gone: returns a line then.
 * @throws Error, one line
 */
export async function watchStatus(
  { mountpoint, json }: Watch,
  print: (text: string) => void,
  output: Output,
): Promise<string | undefined> {
  let before = await mountedFiles(mountpoint);
  const view = new View(output, json);
  const screen = output.isTTY && !json;
  const stop = new AbortController();
  for (const name of SIGNALS) process.once(name, () => stop.abort());
  let last = '';
  let lookedAt = performance.now();
  if (screen) print(`${SECOND_SCREEN}${TOP}${view.draw(before, before, 1)}`);
  try {
    for (;;) {
      await setTimeout(PERIOD, undefined, { signal: stop.signal }).catch(() => undefined);
      if (stop.signal.aborted) return undefined;
      const now = await mountedFiles(mountpoint).catch((error: unknown) => {
        if (error instanceof NoAnswerError || error instanceof ServerGoneError) throw error;
        return undefined;
      });
      // The mount existed before, so it has been unmounted.
      if (now === undefined) return `${printable(mountpoint)} has been unmounted`;
      const seconds = (performance.now() - lookedAt) / 1000;
      lookedAt = performance.now();
      last = view.draw(before, now, seconds);
      print(screen ? TOP + last : last);
      before = now;
    }
  } finally {
    if (screen) print(FIRST_SCREEN + last);
  }
}
