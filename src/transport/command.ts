// A server that speaks NBD on its standard input and output, which are one end of a socketpair.
//
// Used by server.ts. A child has one connection only; `restart` starts another child.

import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { closeDescriptor, socketpair } from '../linux/socket.js';
import { Child, EXIT_TIME } from './child.js';
import { TransportError } from './errors.js';
import { ReceivingSocket } from './receiving-socket.js';
import type { Source, StderrSink } from './source.js';

/** Starts a program with a socket as its standard input and output; the stream is the other end. */
export async function launchOnSocket(
  argv: readonly string[],
  onStderr: StderrSink,
): Promise<{ child: Child; stream: Socket }> {
  const [ours, theirs] = socketpair();
  const stream = new ReceivingSocket({ fd: ours, readable: true, writable: true });
  try {
    return { child: await Child.launch({ argv, socket: theirs, onStderr }), stream };
  } catch (error) {
    stream.destroy();
    throw error;
  } finally {
    closeDescriptor(theirs);
  }
}

export class CommandSource implements Source {
  readonly reconnectable = false;
  readonly singleConnection = true;
  readonly #argv: readonly string[];
  readonly #onStderr: StderrSink;
  #child: Child;
  #stream: Socket | undefined;

  private constructor(argv: readonly string[], onStderr: StderrSink, child: Child, stream: Socket) {
    this.#argv = argv;
    this.#onStderr = onStderr;
    this.#child = child;
    this.#stream = stream;
  }

  static async open(argv: readonly string[], onStderr: StderrSink): Promise<CommandSource> {
    const { child, stream } = await launchOnSocket(argv, onStderr);
    return new CommandSource(argv, onStderr, child, stream);
  }

  get child(): Child {
    return this.#child;
  }

  async connect(): Promise<Duplex> {
    const stream = this.#stream;
    if (stream === undefined) {
      throw new TransportError('a server on standard input and output has one connection only');
    }
    this.#stream = undefined;
    return stream;
  }

  async restart(): Promise<void> {
    this.#stream?.destroy();
    this.#stream = undefined;
    await this.#child.stop(0);
    const { child, stream } = await launchOnSocket(this.#argv, this.#onStderr);
    this.#child = child;
    this.#stream = stream;
  }

  async close(): Promise<void> {
    this.#stream?.destroy();
    this.#stream = undefined;
    await this.#child.stop(EXIT_TIME);
  }
}
