// What --status prints: what can be seen of a mount, once or every second.
//
// Called by main.ts. The texts are made by pure functions.

import { setTimeout } from 'node:timers/promises';
import { statusText } from '../session/status-text.js';
import type { Inspection } from './arguments.js';
import { type MountedFile, mountedFiles } from './mounted.js';
import { rateTable } from './rates.js';

/** Milliseconds between two looks of --watch. */
const PERIOD = 1000;

/** Moves a terminal's cursor home and clears what is below it. */
const CLEAR = '\x1b[H\x1b[J';

/** One object with the member `files`, indented by `indent` or on one line. */
function statusAsJson(files: readonly MountedFile[], indent?: number): string {
  return `${JSON.stringify({ files: files.map(({ path, status }) => ({ path, ...status })) }, null, indent)}\n`;
}

/** What to print once. @throws Error, one line */
export async function showStatus({ mountpoint, json }: Inspection): Promise<string> {
  const files = await mountedFiles(mountpoint);
  if (json) return statusAsJson(files, 2);
  return files.map(({ path, status }) => statusText(path, status)).join('\n');
}

/** Prints the rates of the last second by `print`, until the mount is gone. @throws Error, one line */
export async function watchStatus(
  { mountpoint, json }: Inspection,
  print: (text: string) => void,
  isTerminal: boolean,
): Promise<void> {
  let before = await mountedFiles(mountpoint);
  for (;;) {
    await setTimeout(PERIOD);
    const now = await mountedFiles(mountpoint).catch(() => undefined);
    // It was there before: so it was unmounted meanwhile.
    if (now === undefined) return;
    print(json ? statusAsJson(now) : `${isTerminal ? CLEAR : ''}${rateTable(before, now)}`);
    before = now;
  }
}
