// The program: reads the command line and does what it asks.
//
// Called by bin/nbdfuse. Loads only what the request needs, since the time from start to ready is the
// user's. Sets the exit status: 0 after an orderly unmount or an answered question, else 1.

import { parseArguments, type Request } from './arguments.js';
import { createReport } from './report.js';

async function answer(kind: Exclude<Request['kind'], 'mount'>): Promise<string> {
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

/** Runs the program with `words`, the command line without node and script. Never rejects. */
export async function main(words: readonly string[]): Promise<void> {
  let report = createReport(false);
  try {
    const request = parseArguments(words);
    if (request.kind !== 'mount') {
      // Whoever reads may stop reading, as in `nbdfuse --help | head -1`.
      process.stdout.on('error', () => undefined);
      process.stdout.write(await answer(request.kind));
      return;
    }
    report = createReport(request.settings.verbose);
    const { runProcess } = await import('../session/process.js');
    const status = await runProcess(request.settings, report);
    process.exit(status);
  } catch (error) {
    report.error(error);
    process.exitCode = 1;
  }
}
