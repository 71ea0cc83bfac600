// The command lines of nbdkit: a plugin for the source of the bytes, filters for a part of them. Pure.

import { shellWord } from '../linux/shell.js';
import { proxyWords } from '../transport/proxy.js';
import { SOCKET_BELOW } from './qemu.js';
import type { Source, WebSource } from './source.js';

/** A source for nbdkit to serve. */
export interface NbdkitRequest {
  readonly source: Exclude<Source, { kind: 'nbd' }>;
  readonly range?: { readonly offset: bigint; readonly size: bigint } | undefined;
  readonly readOnly: boolean;
}

/** The name of the plugin for a source. */
export function pluginFor(source: NbdkitRequest['source']): 'file' | 'split' | 'curl' | 'ssh' {
  if (source.kind === 'file' && source.parts !== undefined) return 'split';
  return source.kind === 'web' ? 'curl' : source.kind;
}

/** Attempts after the first, and the seconds before each: as long as a web server needs to start again. */
const RETRY_WORDS = ['retry-request-retries=4', 'retry-request-delay=2'];

function webWords({ url, user, passwordFile, condition, canRetry }: WebSource): string[] {
  const words = [`url=${url}`];
  if (user !== undefined) words.push(`user=${user}`);
  if (passwordFile !== undefined) words.push(`password=+${passwordFile}`);
  if (condition !== undefined) words.push(`header=${condition}`);
  if (canRetry) words.push(...RETRY_WORDS);
  return words;
}

function sourceWords(source: NbdkitRequest['source']): string[] {
  switch (source.kind) {
    case 'file':
      return (source.parts ?? [source.path]).map((path) => `file=${path}`);
    case 'web':
      return webWords(source);
    default: {
      const { host, port, user, path } = source;
      const words = [`host=${host}`, `path=${path}`];
      if (port !== undefined) words.push(`port=${port}`);
      if (user !== undefined) words.push(`user=${user}`);
      return words;
    }
  }
}

/** Options, plugin and parameters of an nbdkit; `options` stand first. */
function nbdkitWords(request: NbdkitRequest, options: readonly string[]): string[] {
  const { source, range, readOnly } = request;
  const words = ['nbdkit', ...options];
  if (readOnly) words.push('--readonly');
  // The first filter is the one that the client talks to.
  if (range !== undefined) words.push('--filter=offset');
  // The last filter is next to the plugin, so that only failed requests are repeated.
  if (source.kind === 'web' && source.canRetry) words.push('--filter=retry-request');
  // nbdkit 1.32 crashes when the filter for a range asks the split plugin for extents.
  if (range !== undefined && source.kind === 'file' && source.parts !== undefined)
    words.push('--filter=noextents');
  words.push(pluginFor(source), ...sourceWords(source));
  if (range !== undefined) words.push(`offset=${range.offset}`, `range=${range.size}`);
  return words;
}

/** An nbdkit that takes its socket by socket activation; `options` stand first. */
export function nbdkitServer(request: NbdkitRequest, options: readonly string[] = []): readonly string[] {
  return nbdkitWords(request, options);
}

/** The name of nbdkit's socket in its own directory, with `-U -`. */
export const SOCKET_NAME = 'socket';

/**
 * The line of a shell that runs a server on top of another one: the listening socket (descriptor 3) is for `upper`. Its
 * words have SOCKET_BELOW in the place of the lower server's own socket; if none has, the header of an overlay names that
 * socket without its directory.
 */
export function runLine(upper: readonly string[]): string {
  const quoted = upper.map((word) => word.split(SOCKET_BELOW).map(shellWord).join('"$unixsocket"'));
  const enter = upper.some((word) => word.includes(SOCKET_BELOW)) ? '' : `cd "\${unixsocket%/*}" && `;
  return `${enter}LISTEN_PID=$$ LISTEN_FDS=1 exec ${quoted.join(' ')}`;
}

/** A server on top of an nbdkit, which runs it. Each server ends with the other. */
function stack(lower: readonly string[], upper: readonly string[]): readonly string[] {
  return ['env', '-u', 'LISTEN_PID', '-u', 'LISTEN_FDS', ...lower, '--run', runLine(upper)];
}

/** `upper` on top of an nbdkit. */
export function overNbdkit(request: NbdkitRequest, upper: readonly string[]): readonly string[] {
  return stack(nbdkitWords(request, ['-U', '-']), upper);
}

/** Minimum bytes that QEMU reads and writes of a descriptor. */
const DESCRIPTOR_LENGTH = 20 * 512;

/** `upper` on top of an nbdkit that serves a text from memory. */
export function overText(text: string, upper: readonly string[]): readonly string[] {
  const size = Math.max(DESCRIPTOR_LENGTH, Buffer.byteLength(text));
  return stack(['nbdkit', '-U', '-', 'data', `raw=${text}`, `size=${size}`], upper);
}

/** `upper` on top of another server that takes its socket by socket activation. */
export function overServer(lower: readonly string[], upper: readonly string[]): readonly string[] {
  return proxyWords(lower, { run: runLine(upper) });
}
