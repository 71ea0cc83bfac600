// A server that inherits a listening socket as descriptor 3, as systemd gives it (sd_listen_fds(3)).
//
// Used by server.ts. The socket is in a new directory of mode 0700, which is removed when the server is closed, and
// when this process is killed (child.ts).

import { mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Duplex } from 'node:stream';
import { AF_UNIX, closeDescriptor, openSocket, SOCK_STREAM } from '../linux/socket.js';
import { socketDirectoryToMake } from '../linux/socket-directory.js';
import { listenUnix } from '../linux/unix-socket.js';
import { printable } from '../nbd/text.js';
import { Child, type LaunchOptions } from './child.js';
import { CONTROL_SUFFIX, chunkServerOptions, isRelay } from './chunk-program.js';
import { connectUnix } from './dial.js';
import { reasonOf, TransportError } from './errors.js';
import type { Source } from './source.js';

/**
 * The path of a directory that can be made.
 * @throws TransportError with the reason of the first place, which $RUNTIME_DIRECTORY or $TMPDIR names
 */
function directoryToMake(): string {
  try {
    return socketDirectoryToMake('nbdfuse');
  } catch (cause) {
    const { path = '' } = cause as NodeJS.ErrnoException;
    throw new TransportError(
      `cannot create a directory for the server's socket in ${printable(dirname(path))}: ${reasonOf(cause)}; ` +
        'set TMPDIR to a directory that you may write to',
      { cause },
    );
  }
}

function listenIn(directory: string, fd: number): void {
  try {
    mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    throw new TransportError(`cannot create a directory for the server's socket: ${reasonOf(error)}`, {
      cause: error,
    });
  }
  listenUnix(fd, join(directory, 'socket'));
}

/** How to launch the server, without its socket. */
type Launch = Pick<LaunchOptions, 'argv' | 'onStderr' | 'currentDirectory'>;

async function launchInDirectory(directory: string, launch: Launch): Promise<Child> {
  const fd = openSocket(AF_UNIX, SOCK_STREAM);
  const listener = { fd, directory, listen: () => listenIn(directory, fd) };
  try {
    return await Child.launch({ ...launch, listener });
  } finally {
    // Only the child may have it open: when the child is gone, connecting fails instead of waiting.
    closeDescriptor(fd);
  }
}

export class SocketActivationSource implements Source {
  readonly reconnectable: boolean;
  readonly singleConnection = false;
  readonly #launch: Launch;
  #directory: string;
  #child: Child;

  private constructor(launch: Launch, directory: string, child: Child) {
    this.reconnectable = isRelay(launch.argv);
    this.#launch = launch;
    this.#directory = directory;
    this.#child = child;
  }

  static async open(launch: Launch): Promise<SocketActivationSource> {
    const directory = directoryToMake();
    try {
      return new SocketActivationSource(launch, directory, await launchInDirectory(directory, launch));
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw error;
    }
  }

  get child(): Child {
    return this.#child;
  }

  get controlPath(): string | undefined {
    if (chunkServerOptions(this.#launch.argv) === undefined) return undefined;
    return `${join(this.#directory, 'socket')}${CONTROL_SUFFIX}`;
  }

  async connect(signal: AbortSignal): Promise<Duplex> {
    return connectUnix(join(this.#directory, 'socket'), signal);
  }

  async restart(): Promise<void> {
    await this.close();
    // The watcher of the last child may still remove its directory: never use one twice.
    this.#directory = directoryToMake();
    this.#child = await launchInDirectory(this.#directory, this.#launch);
  }

  async close(): Promise<void> {
    await this.#child.stop(0);
    await rm(this.#directory, { recursive: true, force: true });
  }
}
