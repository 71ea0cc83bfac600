// A server on another machine, reached through `ssh HOST nc …`: every connection is one ssh.
//
// Used by server.ts. Nothing here goes through a shell on this machine; words for the remote shell are quoted. ssh runs
// without a terminal: it needs a key or an agent.

import type { Duplex } from 'node:stream';
import { printable } from '../nbd/text.js';
import { type Child, EXIT_TIME } from './child.js';
import { launchOnSocket } from './command.js';
import { TransportError } from './errors.js';
import type { Source, StderrSink } from './source.js';
import type { SshTarget } from './target.js';

/**
 * Characters that no name has and that a shell would interpret: a ProxyCommand or Match exec of the user's ssh_config
 * may pass host and user to one (CVE-2023-51385).
 */
const UNSAFE = /[\s\p{Cc}'"`$;&<>|(){}]/u;

/** Quotes a word for a POSIX shell. */
function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

/**
 * The argument vector that connects to `target`.
 * @throws TransportError when the host or user looks like an option, or has characters that no name has
 */
export function sshCommand(target: SshTarget): string[] {
  for (const [what, word] of [
    ['host', target.host],
    ['user', target.user ?? 'x'],
  ] as const) {
    if (word === '' || word.startsWith('-') || UNSAFE.test(word)) {
      throw new TransportError(`bad ${what} for ssh ${printable(JSON.stringify(word))}`);
    }
  }
  const argv = ['ssh', '-o', 'BatchMode=yes'];
  if (target.port !== undefined) argv.push('-p', String(target.port));
  if (target.user !== undefined) argv.push('-l', target.user);
  argv.push('--', target.host, 'nc');
  if ('port' in target.remote) return [...argv, 'localhost', String(target.remote.port)];
  const { socket } = target.remote;
  return [...argv, '-U', quoted(socket.startsWith('-') ? `./${socket}` : socket)];
}

export class SshSource implements Source {
  readonly reconnectable = true;
  readonly singleConnection = false;
  readonly #argv: readonly string[];
  readonly #onStderr: StderrSink;
  readonly #children = new Set<Child>();
  #latest: Child | undefined;

  constructor(target: SshTarget, onStderr: StderrSink) {
    this.#argv = sshCommand(target);
    this.#onStderr = onStderr;
  }

  /** The ssh of the latest connection, whose exit explains a failure. */
  get child(): Child | undefined {
    return this.#latest;
  }

  async connect(): Promise<Duplex> {
    const { child, stream } = await launchOnSocket(this.#argv, this.#onStderr);
    this.#children.add(child);
    this.#latest = child;
    void child.exited.then(() => this.#children.delete(child));
    return stream;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#children].map((child) => child.stop(EXIT_TIME)));
  }
}
