// How many threads a mount may use. Pure.

/** More are not known to be of use. */
const MOST = 4;

/**
 * Threads that serve one file at most. By itself, half of the processors: the programs that read, the kernel and
 * maybe the server need the others.
 * @param wanted by the user, from 1; undefined: not told
 * @param processors that this process may use
 */
export function threadCount(wanted: number | undefined, processors: number): number {
  if (wanted !== undefined) return wanted;
  return processors <= 2 ? 1 : Math.min(Math.ceil(processors / 2), MOST);
}
