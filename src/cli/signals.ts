// The signals that end the program, for what it does besides mounting.
//
// Used by main.ts and list.ts: what was started for an answer must end before the program does.

const SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** Lets `act` run; a signal aborts what it is given, with an error that says so. @throws what `act` throws */
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
