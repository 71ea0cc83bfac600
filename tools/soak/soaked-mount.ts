// One mount under load: server, proxy, nbdfuse, load, and faults.
//
// Used by run.ts. The faults never stop while the load runs; each is random, and so are the pauses.

import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import type { NetConnectOpts } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { CuttingProxy, SETTLE_TIME } from '../../test/support/run/cutting-proxy.js';
import { type MountedDisk, mountDisk, NBDFUSE } from '../../test/support/run/mount.js';
import type { Scope } from '../../test/support/run/scope.js';
import type { Listening } from '../../test/support/run/servers.js';
import { DISK_SIZE, verifyAll, writeAll } from './load.js';
import { DiskServer, nbdkitOfDisk } from './server.js';

/** Seconds after which nbdfuse gives up a server that does not answer; some freezes are longer. */
const TIMEOUT = 2;

/** Lines of nbdfuse's to show after a failure. */
const LAST_LINES = 20;

/** Kinds of faults, each as often as it shall occur. */
const FAULTS = ['kill', 'kill', 'freeze', 'freeze', 'cut', 'cutAll'] as const;

export type Fault = (typeof FAULTS)[number];

/** The addresses of a mount's server. */
export interface Way {
  readonly name: string;
  /** For nbdfuse. */
  readonly options: readonly string[];
  /** Where the server listens; undefined for its Unix socket. */
  readonly listening: Listening | undefined;
  /** nbdkit's words for TLS. */
  readonly tls: readonly string[];
  /** The server's address for the proxy. */
  target(server: DiskServer): NetConnectOpts;
  /** Where the proxy listens: a path or any port. */
  readonly where: string | number;
  uri(proxy: CuttingProxy): string;
}

/** The status of nbdfuse. */
interface LossCounts {
  readonly lostConnections: number;
  readonly retriedRequests: number;
}

interface SoakedMountParts {
  readonly scope: Scope;
  readonly server: DiskServer;
  readonly proxy: CuttingProxy;
  readonly mounted: MountedDisk;
  /** The destination of nbdfuse's standard error. */
  readonly log: string;
}

const between = (least: number, most: number): number => least + Math.random() * (most - least);

/** See the file's head. */
export class SoakedMount {
  readonly name: string;
  readonly faults: Record<Fault, number> = { kill: 0, freeze: 0, cut: 0, cutAll: 0 };
  written = 0;
  verified = 0;
  passes = 0;
  losses: LossCounts = { lostConnections: 0, retriedRequests: 0 };
  readonly #scope: Scope;
  readonly #server: DiskServer;
  readonly #proxy: CuttingProxy;
  readonly #mounted: MountedDisk;
  readonly #log: string;
  #calm = false;

  private constructor(name: string, parts: SoakedMountParts) {
    this.name = name;
    this.#scope = parts.scope;
    this.#server = parts.server;
    this.#proxy = parts.proxy;
    this.#mounted = parts.mounted;
    this.#log = parts.log;
  }

  /** Starts the server, the proxy and nbdfuse; resolves when the disk is mounted. */
  static async open(scope: Scope, way: Way, verbose: boolean): Promise<SoakedMount> {
    const command = nbdkitOfDisk(way.listening, [...way.tls, '--filter=cache']);
    const server = new DiskServer(scope, way.name, DISK_SIZE, command);
    await server.start();
    const proxy = await CuttingProxy.open(scope, way.where, way.target(server));
    const times = [`--timeout=${TIMEOUT}`, '--reconnect=forever', `--settle-time=${SETTLE_TIME}`];
    const log = scope.path(`${way.name}.log`);
    const errors = openSync(log, 'a');
    const mounted = await mountDisk(scope, {
      name: way.name,
      server: [way.uri(proxy)],
      options: ['-C', '4', ...times, ...way.options],
      program: { stdio: ['ignore', 'ignore', verbose ? 'inherit' : errors] },
    });
    closeSync(errors);
    return new SoakedMount(way.name, { scope, server, proxy, mounted, log });
  }

  /** Resident memory of nbdfuse, in MiB; 0 when it has ended. */
  get memory(): number {
    const path = `/proc/${this.#mounted.program.pid}/status`;
    const status = existsSync(path) ? readFileSync(path, 'utf8') : '';
    return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) / 1024;
  }

  /** The last lines of nbdfuse; empty if they were already shown. */
  get lastWords(): string {
    return readFileSync(this.#log, 'utf8').trimEnd().split('\n').slice(-LAST_LINES).join('\n');
  }

  /** Runs passes with faults until `over` is true. @throws Error for a broken promise */
  async run(over: () => boolean): Promise<void> {
    const failing = this.#failAgainAndAgain();
    try {
      while (!over()) await this.#pass();
    } finally {
      this.#calm = true;
      await failing;
    }
  }

  /** Unmounts, and compares the server's own disk. @throws Error when nbdfuse fails or a byte is wrong */
  async close(): Promise<void> {
    this.losses = this.#status();
    const { program } = this.#mounted;
    program.child.kill('SIGTERM');
    const status = await program.endsWithin(15_000);
    if (status !== 0) throw new Error(`nbdfuse ended with ${status}`);
    await this.#server.kill();
    if (this.passes > 0) await verifyAll(this.#scope, this.#server.disk, this.passes - 1);
    this.#proxy.close();
  }

  async #pass(): Promise<void> {
    const { file } = this.#mounted;
    this.written += (await writeAll(this.#scope, file, this.passes)).written;
    this.verified += (await verifyAll(this.#scope, file, this.passes)).verified;
    this.passes++;
  }

  async #failAgainAndAgain(): Promise<void> {
    while (!this.#calm) {
      await pause(between(1500, 4000));
      if (this.#calm) return;
      const fault = FAULTS[Math.floor(Math.random() * FAULTS.length)];
      await this.#fail(fault);
      this.faults[fault]++;
    }
  }

  async #fail(fault: Fault): Promise<void> {
    switch (fault) {
      case 'kill':
        await this.#server.kill();
        await pause(between(0, 800));
        await this.#server.start();
        return;
      case 'freeze':
        this.#server.freeze();
        await pause(between(300, 2 * TIMEOUT * 1000));
        this.#server.thaw();
        return;
      case 'cut':
        this.#proxy.cut(1);
        return;
      case 'cutAll':
        this.#proxy.cut(Number.POSITIVE_INFINITY);
    }
  }

  #status(): LossCounts {
    const words = [NBDFUSE, '--status', '--json', this.#mounted.mountpoint];
    const text = execFileSync(process.execPath, words, { encoding: 'utf8', timeout: 10_000 });
    return (JSON.parse(text) as { files: LossCounts[] }).files[0];
  }
}
