// A session as a process: signals, defects that nobody caught, and the exit status.
//
// Called by the command line. The first signal stops in order, the second cuts the waiting short.
// Never rejects for what goes wrong with the session: that is reported, and the status is 1.

import type { Worker } from 'node:worker_threads';
import { ServiceNotifier } from './service.js';
import type { Ending } from './session.js';
import type { Report, Settings } from './settings.js';
import { startSession } from './start.js';

const SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** What comes from outside of the session. */
interface Interruption {
  /** Resolves with the first signal or defect. */
  readonly ending: Promise<Ending>;
  /** Aborted at the same time, with an error that says so. */
  readonly start: AbortSignal;
  /** Aborted by the second signal. */
  readonly hurry: AbortSignal;
}

function watchForInterruption(report: Report): Interruption {
  const start = new AbortController();
  const hurry = new AbortController();
  const ending = new Promise<Ending>((resolve) => {
    for (const name of SIGNALS) {
      process.on(name, () => {
        if (start.signal.aborted) hurry.abort();
        start.abort(new Error(`stopped by ${name} before the mount was ready`));
        resolve({ kind: 'signal', name });
      });
    }
    const onDefect = (error: unknown): void => {
      // A second one may come from the stop itself: then there is no order left to keep.
      if (start.signal.aborted) process.exit(1);
      start.abort(error);
      report.error(error);
      resolve({ kind: 'crash', why: 'an internal error' });
    };
    process.on('uncaughtException', onDefect);
    process.on('unhandledRejection', onDefect);
  });
  return { ending, start: start.signal, hurry: hurry.signal };
}

/** What the command line may give a session. */
export interface ProcessHooks {
  /** Called when the file can be used. */
  readonly ready?: () => void;
  /** A worker that was started before anything else, for the kernel backend. */
  readonly worker?: Worker;
}

/** Mounts, serves until it is over, and stops. Returns the exit status. */
export async function runProcess(
  settings: Settings,
  report: Report,
  { ready, worker }: ProcessHooks = {},
): Promise<number> {
  const service = ServiceNotifier.take(process.env);
  const told: Report = {
    ...report,
    line: (text, level) => {
      report.line(text, level);
      service.status(text);
    },
  };
  const interruption = watchForInterruption(told);
  const starting = startSession(settings, told, interruption.start, worker);
  // From the beginning on: without a listener it would start Node's debugger.
  process.on('SIGUSR1', () => {
    starting.then((started) => started.reportStatus(report)).catch(() => undefined);
  });
  const session = await starting;
  service.ready(`serving ${settings.mountpoint}`);
  ready?.();
  const ending = await Promise.race([session.ended, interruption.ending]);
  service.stopping(`unmounting ${settings.mountpoint}`);
  return session.stop(ending, interruption.hurry);
}
