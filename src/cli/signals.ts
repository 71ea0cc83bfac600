// Handles the signals that end the program, for requests that do not mount.
//
// Used by main.ts and list.ts: a server that was started for a request must end before the program does.

const SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** Runs `act`; a signal aborts it, with an error that names the signal. @throws the errors of `act` */
export async function untilSignal<T>(act: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const stop = new AbortController();
  const handlers = SIGNALS.map((name) => {
    const handler = (): void => stop.abort(new Error(`stopped by ${name}`));
    process.on(name, handler);
    return () => process.off(name, handler);
  });
  try {
    return await act(stop.signal);
  } finally {
    for (const remove of handlers) remove();
  }
}
