// A server that was started to inspect an image, and that a mount may use afterwards.
//
// Made by src/image; src/session takes it instead of starting the same server again.

import { type NbdServer, openServer } from './server.js';
import type { StderrSink } from './source.js';

/** Bytes of standard error that are kept. */
const KEPT_LENGTH = 4096;

/** See the file's head. */
export class StartedServer {
  readonly argv: readonly string[];
  readonly server: NbdServer;
  readonly #output: Output;

  private constructor(argv: readonly string[], server: NbdServer, output: Output) {
    this.argv = argv;
    this.server = server;
    this.#output = output;
  }

  /**
   * Starts a server that takes its socket by socket activation.
   * @param directory its current directory; undefined: ours
   * @throws TransportError
   */
  static async start(argv: readonly string[], directory?: string): Promise<StartedServer> {
    const output = new Output();
    const target = { kind: 'socket-activation', argv, directory } as const;
    const onStderr: StderrSink = (chunk) => output.take(chunk);
    const server = await openServer({ target, exportName: '' }, { onStderr, handOver: true });
    return new StartedServer(argv, server, output);
  }

  /** The end of its standard error, not escaped. */
  get said(): string {
    return this.#output.kept.toString();
  }

  /** Passes what it has written to standard error, and all that it will write, to `sink`. */
  passOn(sink: StderrSink): void {
    this.#output.passOn(sink);
  }

  async close(): Promise<void> {
    await this.server.close();
  }
}

/** Keeps the output of a server until somebody wants it. */
class Output {
  kept: Buffer = Buffer.alloc(0);
  #sink: StderrSink | undefined;

  take(chunk: Buffer): void {
    if (this.#sink === undefined) this.kept = Buffer.concat([this.kept, chunk]).subarray(-KEPT_LENGTH);
    else this.#sink(chunk);
  }

  passOn(sink: StderrSink): void {
    if (this.kept.length > 0) sink(this.kept);
    this.#sink = sink;
  }
}
