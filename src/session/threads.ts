// How many threads a mount may use. Pure.

/** More threads have no known benefit. */
const MOST = 4;

/**
 * Maximum number of threads that serve one file. By default, half of the processors: the programs that read, the kernel
 * and maybe the server need the others.
 * @param wanted by the user, from 1; undefined: automatic
 * @param processors that this process may use
 */
export function threadCount(wanted: number | undefined, processors: number): number {
  if (wanted !== undefined) return wanted;
  return processors <= 2 ? 1 : Math.min(Math.ceil(processors / 2), MOST);
}
