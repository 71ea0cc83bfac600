// The command line of the proxy, a program of ours between a server and what stands on top of it.
//
// `src/proxy` is the program. Used by src/image.

import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The script of the proxy. */
const PROXY = fileURLToPath(new URL('../../bin/nbdfuse-proxy', import.meta.url));

/** The extra work of the proxy. */
export interface ProxyOptions {
  /** Bytes of the server's disk that the proxy shows; undefined: all. */
  readonly size?: bigint;
  /** A line for a shell, which the proxy runs with its socket's path in $unixsocket. It ends with the line. */
  readonly run?: string;
}

/**
 * The words of a proxy to a server that takes its socket by socket activation, as the proxy does.
 * @param server the words of the server
 */
export function proxyWords(server: readonly string[], { size, run }: ProxyOptions): readonly string[] {
  const words = [process.execPath, PROXY];
  if (size !== undefined) words.push(`--size=${size}`);
  if (run !== undefined) words.push(`--run=${run}`);
  return [...words, '--', ...server];
}

/** The proxy's name where a command line is one of the proxy. */
export function proxyName(argv: readonly string[]): string | undefined {
  return argv[1] === PROXY ? basename(PROXY) : undefined;
}
