// Where a case is played: a server, maybe a proxy before it, nbdfuse, a plain file, and the actors.
//
// Used by run.ts. All of it lies in a folder of its own, which is kept when something was found.

import { type ChildProcess, fork, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, copyFileSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { atEnd, start, whenEnded, whenWritten } from '../bench/processes.js';
import { Random } from '../simulate/random.js';
import { CuttingProxy, SETTLE_TIME } from '../soak/proxy.js';
import type { DiskServer } from '../soak/server.js';
import { unequal } from './difference.js';
import { Faults, TIMEOUT } from './faults.js';
import type { FromActor, ToActor } from './messages.js';
import type { Range } from './operations.js';
import type { Plan } from './plan.js';
import { addressOf, type Surroundings, serverOf, uriOf } from './server.js';

const NBDFUSE = fileURLToPath(new URL('../../../../bin/nbdfuse', import.meta.url));
const ACTOR = fileURLToPath(new URL('./actor.js', import.meta.url));

/** Milliseconds after which operations that have not ended hang. */
const PATIENCE = 120_000;

/** Something that must not be. */
export class Finding extends Error {
  /** Whether it is that something does not end. */
  readonly hangs: boolean;

  constructor(what: string, hangs = false, options?: ErrorOptions) {
    super(what, options);
    this.hangs = hangs;
  }
}

/** The areas of so many actors: the whole, or parts whose bounds fit nothing. */
function areasOf(plan: Plan): Range[] {
  if (plan.actors === 'mixed') return [{ at: 0, length: plan.size }];
  const random = new Random(plan.seed);
  const third = Math.floor(plan.size / 3);
  const bounds = [0, third + random.below(9999), 2 * third + random.below(9999), plan.size];
  return [0, 1, 2].map((i) => ({ at: bounds[i], length: bounds[i + 1] - bounds[i] }));
}

/** See the file's head. */
export class Stage {
  readonly faults: Faults;
  /** Of the server, by itself: how it ended each time. */
  readonly deaths: readonly string[];
  readonly #plan: Plan;
  readonly #surroundings: Surroundings;
  readonly #server: DiskServer;
  readonly #proxy: CuttingProxy | undefined;
  readonly #reference: string;
  #actors: ChildProcess[] = [];
  #program: ChildProcess | undefined;

  private constructor(
    plan: Plan,
    surroundings: Surroundings,
    server: DiskServer,
    deaths: readonly string[],
    proxy?: CuttingProxy,
  ) {
    this.deaths = deaths;
    this.#plan = plan;
    this.#surroundings = surroundings;
    this.#server = server;
    this.#proxy = proxy;
    this.#reference = join(surroundings.folder, 'plain.raw');
    this.faults = new Faults(plan.faults, server, proxy);
  }

  /** Starts everything. */
  static async open(plan: Plan, surroundings: Surroundings): Promise<Stage> {
    const { folder } = surroundings;
    // For nbdfuse it is as if it was killed: nothing may be lost, and the case goes on.
    const deaths: string[] = [];
    const server = serverOf(plan, surroundings, (why) => {
      deaths.push(why);
      console.error(`seed ${plan.seed}: ${why}`);
    });
    await server.start();
    const where = plan.way === 'unix' ? join(folder, 'proxy') : 0;
    const address = addressOf(plan, server, surroundings);
    const proxy = plan.faults === 'none' ? undefined : await CuttingProxy.open(where, address);
    const stage = new Stage(plan, surroundings, server, deaths, proxy);
    copyFileSync(server.disk, stage.#reference);
    mkdirSync(stage.#mountpoint);
    // A killed nbdfuse leaves its mount.
    atEnd(() => void spawnSync('umount', ['-l', stage.#mountpoint], { stdio: 'ignore' }));
    await stage.#mount();
    await stage.#startActors();
    return stage;
  }

  /**
   * Lets all actors play their next operations, while things go wrong.
   * @param kept the numbers of those that each plays, if not all are
   * @throws Finding
   */
  async play(count: number, kept?: readonly (readonly number[])[]): Promise<void> {
    this.faults.begin();
    await this.#tellAll((index) => ({ kind: 'play', count, kept: kept?.[index] }));
    await this.faults.rest();
  }

  /** Compares everything, as seen through the mount. @throws Finding */
  compare(): Promise<void> {
    return this.#tellAll(() => ({ kind: 'compare' }));
  }

  /** Lets all actors close their files until they play again. @throws Finding */
  close(): Promise<void> {
    return this.#tellAll(() => ({ kind: 'close' }));
  }

  /** Unmounts, looks at the server's own disk, and mounts again. @throws Finding */
  async remount(): Promise<void> {
    await this.#unmount();
    await this.#mount();
  }

  /** Ends in order. @throws Finding */
  async finish(): Promise<void> {
    await this.#unmount();
    await this.abandon();
  }

  /** Ends at once. */
  async abandon(): Promise<void> {
    await this.faults.rest();
    for (const actor of this.#actors) actor.kill('SIGKILL');
    this.#program?.kill('SIGKILL');
    spawnSync('umount', ['-l', this.#mountpoint], { stdio: 'ignore' });
    await this.#server.kill();
    this.#proxy?.close();
  }

  /** Where all of it lies. */
  get folder(): string {
    return this.#surroundings.folder;
  }

  /** The last lines of the actors and of nbdfuse. */
  lastWords(lines: number): string {
    const { folder } = this.#surroundings;
    const logs = ['nbdfuse.log', ...this.#actors.map((_, i) => `actor${i}.log`)];
    const tail = (name: string): string =>
      readFileSync(join(folder, name), 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
    return logs.map((name) => `--- ${name}\n${tail(name)}`).join('\n');
  }

  /** The logs of the actors. */
  actorLogs(): string {
    const { folder } = this.#surroundings;
    return this.#actors
      .map((_, i) => `--- actor ${i}\n${readFileSync(join(folder, `actor${i}.log`), 'utf8')}`)
      .join('');
  }

  get #mountpoint(): string {
    return join(this.#surroundings.folder, 'mnt');
  }

  async #mount(): Promise<void> {
    const { folder, pki } = this.#surroundings;
    const { plan, proxy } = { plan: this.#plan, proxy: this.#proxy };
    const address = addressOf(plan, this.#server, this.#surroundings);
    const proxied = plan.way === 'unix' ? { path: join(folder, 'proxy') } : { host: '127.0.0.1' };
    const where = proxy === undefined ? address : { port: proxy.port, ...proxied };
    const kernel = [`--cache=${plan.cache}`, `--threads=${plan.threads}`];
    const ofBackend = plan.backend === 'kernel' ? kernel : [];
    const timeout = plan.faults === 'freezes' ? [`--timeout=${TIMEOUT}`] : [];
    const options = [`--fuse-backend=${plan.backend}`, '-C', plan.connections, ...ofBackend, ...timeout];
    const pidfile = join(folder, 'nbdfuse.pid');
    const words = ['--reconnect=forever', `--settle-time=${SETTLE_TIME}`, '-P', pidfile, this.#mountpoint];
    const log = openSync(join(folder, 'nbdfuse.log'), 'a');
    this.#program = start(
      [process.execPath, NBDFUSE, ...options, ...words, uriOf(plan, where, pki)],
      {},
      log,
    );
    closeSync(log);
    await whenWritten(pidfile, this.#program);
  }

  async #unmount(): Promise<void> {
    await this.close();
    const program = this.#program;
    if (program === undefined) return;
    program.kill('SIGTERM');
    await whenEnded(program, 15_000);
    if (program.exitCode !== 0) throw new Finding(`nbdfuse ended with ${program.exitCode}`);
    const [ours, theirs] = [readFileSync(this.#server.disk), readFileSync(this.#reference)];
    // Killed, a server with a cache has on its disk what was flushed.
    const why = unequal(ours.subarray(0, this.#plan.size), theirs, 0);
    if (why !== undefined) throw new Finding(`on the server's disk ${why}`);
  }

  async #startActors(): Promise<void> {
    const { folder } = this.#surroundings;
    const plan = this.#plan;
    const areas = areasOf(plan);
    this.#actors = areas.map(() => fork(ACTOR, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] }));
    for (const actor of this.#actors) atEnd(() => void actor.kill('SIGKILL'));
    await this.#tellAll((index) => ({
      kind: 'start',
      plan,
      index,
      area: areas[index],
      subject: join(this.#mountpoint, 'nbd'),
      reference: this.#reference,
      log: join(folder, `actor${index}.log`),
    }));
  }

  async #tellAll(messageFor: (index: number) => ToActor): Promise<void> {
    await Promise.all(this.#actors.map((actor, index) => this.#tell(actor, messageFor(index))));
  }

  async #tell(actor: ChildProcess, message: ToActor): Promise<void> {
    const over = new AbortController();
    const timer = setTimeout(() => over.abort(), PATIENCE);
    const { signal } = over;
    const ended = once(actor, 'exit', { signal }).then(([status, name]: (number | string | null)[]) => {
      throw new Finding(`an actor ended: ${name ?? `status ${status}`}`);
    });
    const answered = once(actor, 'message', { signal }) as Promise<[FromActor]>;
    actor.send(message);
    try {
      const [answer] = await Promise.race([answered, ended]);
      if (answer.kind === 'failed') throw new Finding(answer.why);
    } catch (error) {
      const why = `an operation does not end; the server ${this.#server.running ? 'runs' : 'has ended'}`;
      throw error instanceof Finding ? error : new Finding(why, true, { cause: error });
    } finally {
      clearTimeout(timer);
      over.abort();
      for (const promise of [answered, ended]) promise.catch(() => undefined);
    }
  }
}
