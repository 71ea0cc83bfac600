// The command line of the proxy. Pure.

import { ProxyError } from './errors.js';

/** The parsed command line. */
export interface ProxyRequest {
  /** The words of the server below. */
  readonly server: readonly string[];
  /** Bytes of the export to show; undefined: all. */
  readonly size: bigint | undefined;
  /** A line for a shell; undefined: the proxy serves the inherited socket. */
  readonly run: string | undefined;
}

const USAGE = 'usage: nbdfuse-proxy [--size=BYTES] [--run=COMMAND] -- SERVER [ARGUMENT ...]';

/** @throws ProxyError when the words are no command line of the proxy */
export function parseProxyWords(words: readonly string[]): ProxyRequest {
  const end = words.indexOf('--');
  const server = words.slice(end + 1);
  if (end < 0 || server.length === 0) throw new ProxyError(USAGE);
  let [size, run]: [bigint | undefined, string | undefined] = [undefined, undefined];
  for (const word of words.slice(0, end)) {
    if (/^--size=\d{1,19}$/.test(word)) size = BigInt(word.slice('--size='.length));
    else if (word.startsWith('--run=')) run = word.slice('--run='.length);
    else throw new ProxyError(USAGE);
  }
  return { server, size, run };
}
