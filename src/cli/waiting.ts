// A line about a wait that takes longer than a person expects.
//
// Used by main.ts while a server does not answer, and by --unmount.

/** Milliseconds after which a wait gets its line. */
const PATIENCE = 2000;

/** Awaits `work`; after two seconds, `announce` says what it waits for. @throws the errors of `work` */
export async function announceWait<T>(work: Promise<T>, announce: () => void): Promise<T> {
  const timer = setTimeout(announce, PATIENCE);
  try {
    return await work;
  } finally {
    clearTimeout(timer);
  }
}
