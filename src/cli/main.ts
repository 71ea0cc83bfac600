// The program: reads the command line and does what it asks.
//
// Called by bin/nbdfuse. Loads only what the request needs, since the time from start to ready is the
// user's. Sets the exit status: 0 after an orderly unmount or an answered question, else 1.

import { spawnWorker } from '../bridge/spawn.js';
import type { Settings } from '../session/settings.js';
import { type Listing, parseArguments, type Question, type Request } from './arguments.js';
import { createReport, earlyReport } from './report.js';

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
async function mount(settings: Settings, ready?: () => void): Promise<never> {
  const report = createReport(settings);
  try {
    // Its thread starts on another core while this one loads the rest.
    const worker = settings.backend === 'kernel' ? spawnWorker() : undefined;
    const { runProcess } = await import('../session/process.js');
    process.exit(await runProcess(settings, report, { ready, worker }));
  } catch (error) {
    report.error(error);
    process.exit(1);
  }
}

/** Mounts in the background. */
async function mountInBackground(settings: Settings, words: readonly string[]): Promise<never> {
  const { becomeDaemon, isDaemon, startDaemon } = await import('./daemon.js');
  if (isDaemon()) return mount(settings, becomeDaemon);
  process.exit(await startDaemon(words, settings.server));
}

/** The exports of a server. */
async function list(listing: Listing): Promise<string> {
  const { listExports } = await import('./list.js');
  return listExports(listing, createReport(listing));
}

/** What a request that mounts nothing prints at its end. */
async function textFor(request: Exclude<Request, { readonly kind: 'mount' }>): Promise<string> {
  switch (request.kind) {
    case 'list':
      return list(request.listing);
    case 'status':
      return (await import('./status.js')).showStatus(request.inspection, process.stdout);
    case 'watch':
      await (await import('./status.js')).watchStatus(request.inspection, print, process.stdout);
      return '';
    case 'completion':
      return (await import('./completion.js')).completionScript(request.shell);
    case 'unmount':
      await (await import('./unmount.js')).unmountAndWait(request.mountpoint);
      return '';
    default:
      return answer(request.kind);
  }
}

/** Runs the program with `words`, the command line without node and script. Never rejects. */
export async function main(words: readonly string[]): Promise<void> {
  try {
    const request = parseArguments(words);
    if (request.kind === 'mount') {
      await (request.daemon ? mountInBackground(request.settings, words) : mount(request.settings));
    } else print(await textFor(request));
  } catch (error) {
    earlyReport(words).error(error);
    process.exitCode = 1;
  }
}

/** Whoever reads may stop reading, as in `nbdfuse --help | head -1`. */
function print(text: string): void {
  process.stdout.on('error', () => undefined);
  process.stdout.write(text);
}
