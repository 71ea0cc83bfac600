// A server that was started to inspect an image, and that a mount may use afterwards.
//
// Made by src/image; src/session takes it instead of starting the same server again.

import { KeptOutput } from './kept-output.js';
import { type NbdServer, openServer } from './server.js';
import type { StderrSink } from './source.js';

/** See the file's head. */
export class StartedServer {
  readonly argv: readonly string[];
  readonly server: NbdServer;
  /** Its standard error. */
  readonly output: KeptOutput;

  private constructor(argv: readonly string[], server: NbdServer, output: KeptOutput) {
    this.argv = argv;
    this.server = server;
    this.output = output;
  }

  /**
   * Starts a server that takes its socket by socket activation.
   * @param directory its current directory; undefined: ours
   * @throws TransportError
   */
  static async start(argv: readonly string[], directory?: string): Promise<StartedServer> {
    const output = new KeptOutput();
    const target = { kind: 'socket-activation', argv, directory } as const;
    const onStderr: StderrSink = (chunk) => output.take(chunk);
    const server = await openServer({ target, exportName: '' }, { onStderr, handOver: true });
    return new StartedServer(argv, server, output);
  }

  async close(): Promise<void> {
    await this.server.close();
  }
}
