// Runs a session as a process: signals, uncaught errors, and the exit status.
//
// Called by the command line. The first signal stops the session in order; the second cuts the waiting short. Rejects
// when the session cannot start; a failure of a running session is reported, and the status is 1.

import type { Worker } from 'node:worker_threads';
import type { MountPlace } from './place.js';
import type { Ending } from './session.js';
import type { Report, Settings } from './settings.js';
import { startSession } from './start.js';
import { ServiceNotifier } from './systemd-notify.js';

const SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** Signals and uncaught errors. */
interface Interruption {
  /** Resolves with the first signal or uncaught error. */
  readonly ending: Promise<Ending>;
  /** Aborted at the same time, with an error that names the signal, or the uncaught error. */
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
      // A second error may come from the stop itself, which then cannot be orderly any more.
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

/** Hooks of the command line. */
export interface ProcessHooks {
  /** Called when the file can be used. */
  readonly ready?: () => void | Promise<void>;
  /** An idle worker for the kernel backend, started early. */
  readonly worker?: Worker | undefined;
  /** Where to mount, if that has been found already. */
  readonly place?: MountPlace | undefined;
}

/** Mounts, serves until the session ends, and stops. Returns the exit status. */
export async function runProcess(
  settings: Settings,
  report: Report,
  { ready, worker, place }: ProcessHooks = {},
): Promise<number> {
  const service = ServiceNotifier.take(process.env);
  const observed: Report = {
    ...report,
    line: (text, level) => {
      report.line(text, level);
      service.status(text);
    },
  };
  const interruption = watchForInterruption(observed);
  const starting = startSession(settings, observed, interruption.start, worker, place);
  // From the start: without a listener the signal would start Node's debugger.
  process.on('SIGUSR1', () => {
    starting.then((started) => started.reportStatus(report)).catch(() => undefined);
  });
  const session = await starting;
  service.ready(`serving ${settings.mountpoint}`);
  await ready?.();
  const ending = await Promise.race([session.ended, interruption.ending]);
  service.stopping(`unmounting ${settings.mountpoint}`);
  return session.stop(ending, interruption.hurry);
}
