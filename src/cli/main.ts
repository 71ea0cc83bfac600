// The program: reads the command line and does what it asks.
//
// Called by bin/nbdfuse. Loads only what the request needs, since the time from start to ready is the
// user's. Sets the exit status: 0 after an orderly unmount or an answered question, else 1.

import type { Settings } from '../session/settings.js';
import { type Listing, parseArguments, type Question } from './arguments.js';
import { createReport } from './report.js';

async function answer(kind: Question): Promise<string> {
  if (kind === 'fuse-help') return (await import('../mount/options.js')).fuseOptionsHelp();
  const help = await import('./help.js');
  switch (kind) {
    case 'help':
      return help.helpText();
    case 'version':
      return help.versionText();
    case 'long-options':
      return help.longOptionsText();
    default:
      return help.shortOptionsText();
  }
}

/** Mounts and serves until it is over; ends the process, whatever may still be open in it. */
async function mount(settings: Settings): Promise<never> {
  const report = createReport(settings.verbose);
  try {
    const { runProcess } = await import('../session/process.js');
    process.exit(await runProcess(settings, report));
  } catch (error) {
    report.error(error);
    process.exit(1);
  }
}

/** The exports of a server. */
async function list(listing: Listing): Promise<string> {
  const { listExports } = await import('./list.js');
  return listExports(listing, createReport(listing.verbose));
}

/** Runs the program with `words`, the command line without node and script. Never rejects. */
export async function main(words: readonly string[]): Promise<void> {
  try {
    const request = parseArguments(words);
    if (request.kind === 'mount') await mount(request.settings);
    else print(await (request.kind === 'list' ? list(request.listing) : answer(request.kind)));
  } catch (error) {
    createReport(false).error(error);
    process.exitCode = 1;
  }
}

/** Whoever reads may stop reading, as in `nbdfuse --help | head -1`. */
function print(text: string): void {
  process.stdout.on('error', () => undefined);
  process.stdout.write(text);
}
