// The environment of a case: a server, possibly a proxy before it, nbdfuse, a plain file, and the actors.
//
// Used by run.ts. All files are in one directory, which is kept after a finding.
//
// An actor without progress for a minute, while there are no faults, is a finding: an operation hangs. During
// faults a heavily loaded machine looks the same, because an operation may need longer than the time between
// two faults. So the faults pause a minute after the operations began, until the next ones begin, and the
// minute counts from then on.

import { once } from 'node:events';
import { closeSync, copyFileSync, openSync, readFileSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { CuttingProxy, SETTLE_TIME } from '../../test/support/run/cutting-proxy.js';
import { type MountedDisk, mountDisk } from '../../test/support/run/mount.js';
import { Program } from '../../test/support/run/program.js';
import { processesOf } from '../../test/support/run/scope.js';
import { uriOf } from '../../test/support/run/servers.js';
import { Random } from '../simulate/random.js';
import type { DiskServer } from '../soak/server.js';
import { unequal } from './difference.js';
import { Faults, TIMEOUT } from './faults.js';
import type { FromActor, ToActor } from './messages.js';
import type { Range } from './operations.js';
import type { Plan } from './plan.js';
import { addressOf, type Surroundings, serverOf } from './server.js';

const ACTOR = fileURLToPath(new URL('./actor.js', import.meta.url));

/**
 * Milliseconds until the faults pause, and milliseconds without progress after which an operation counts as
 * hanging.
 */
const PATIENCE = 60_000;

/** A wrong result. */
export class Finding extends Error {
  /** Whether the finding is an operation that does not end. */
  readonly hangs: boolean;

  constructor(what: string, hangs = false, options?: ErrorOptions) {
    super(what, options);
    this.hangs = hangs;
  }
}

/** The options of a cache file, and of the end of the chunk server that writes it. */
function keepOptions({ keep }: Plan, path: string): string[] {
  if (keep === 'nothing') return [];
  const limits = keep === 'small' ? ['--cache-size=16M', '--cache-memory=16M', '--prefetch'] : [];
  return [`--cache-file=${path}`, '--restart', ...limits];
}

/** The areas of the actors: the whole file, or parts with unaligned bounds. */
function areasOf(plan: Plan): Range[] {
  if (plan.actors === 'mixed') return [{ at: 0, length: plan.size }];
  const random = new Random(plan.seed);
  const third = Math.floor(plan.size / 3);
  const bounds = [0, third + random.below(9999), 2 * third + random.below(9999), plan.size];
  return [0, 1, 2].map((i) => ({ at: bounds[i], length: bounds[i + 1] - bounds[i] }));
}

function tryKill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}

/** See the file's head. */
export class Stage {
  readonly faults: Faults;
  /** The unexpected ends of the server: the reason of each. */
  readonly deaths: readonly string[];
  readonly #plan: Plan;
  readonly #surroundings: Surroundings;
  readonly #server: DiskServer;
  readonly #proxy: CuttingProxy | undefined;
  readonly #reference: string;
  #actors: Program[] = [];
  #mounted: MountedDisk | undefined;

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
    this.#reference = surroundings.scope.path('plain.raw');
    const relay = plan.keep === 'nothing' ? undefined : { kill: () => this.#killChunkServer() };
    this.faults = new Faults(plan.faults, { server, proxy, relay });
  }

  /** Starts everything. */
  static async open(plan: Plan, surroundings: Surroundings): Promise<Stage> {
    const { scope } = surroundings;
    // For nbdfuse this is like a killed server: nothing may be lost, and the case continues.
    const deaths: string[] = [];
    const server = serverOf(plan, surroundings, (why) => {
      deaths.push(why);
      console.error(`seed ${plan.seed}: ${why}`);
    });
    await server.start();
    const where = plan.way === 'unix' ? scope.path('proxy') : 0;
    const address = addressOf(plan, server, surroundings);
    const proxy = plan.faults === 'none' ? undefined : await CuttingProxy.open(scope, where, address);
    const stage = new Stage(plan, surroundings, server, deaths, proxy);
    copyFileSync(server.disk, stage.#reference);
    const { file } = await stage.#mount();
    await stage.#startActors(file);
    return stage;
  }

  /**
   * Lets all actors play their next operations, with faults.
   * @param kept the numbers of the operations that each actor plays, if not all
   * @throws Finding
   */
  async play(count: number, kept?: readonly (readonly number[])[]): Promise<void> {
    this.faults.begin();
    // rest() below throws the same error.
    const timer = setTimeout(() => void this.faults.rest().catch(() => undefined), PATIENCE);
    try {
      await this.#tellAll((index) => ({ kind: 'play', count, kept: kept?.[index] }));
    } finally {
      clearTimeout(timer);
    }
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

  /** Unmounts, compares the server's own disk, and mounts again. @throws Finding */
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
    for (const actor of this.#actors) actor.child.kill('SIGKILL');
    this.#mounted?.program.child.kill('SIGKILL');
    await this.#server.kill();
    this.#proxy?.close();
  }

  /** Removes the remains of abandon(): the mount of a killed nbdfuse, and all files. */
  remove(): void {
    this.#surroundings.scope.endNow();
  }

  /** The directory of all files. */
  get folder(): string {
    return this.#surroundings.scope.folder;
  }

  /** The last lines of the actors and of nbdfuse. */
  lastWords(lines: number): string {
    const { scope } = this.#surroundings;
    const logs = ['nbdfuse.log', ...this.#actors.map((_, i) => `actor${i}.log`)];
    const tail = (name: string): string =>
      readFileSync(scope.path(name), 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
    return logs.map((name) => `--- ${name}\n${tail(name)}`).join('\n');
  }

  /** The logs of the actors. */
  actorLogs(): string {
    return this.#actors.map((_, i) => `--- actor ${i}\n${readFileSync(this.#logOf(i), 'utf8')}`).join('');
  }

  async #mount(): Promise<MountedDisk> {
    const { scope, pki } = this.#surroundings;
    const { plan, proxy } = { plan: this.#plan, proxy: this.#proxy };
    const address = addressOf(plan, this.#server, this.#surroundings);
    const proxied = (open: CuttingProxy) =>
      plan.way === 'unix' ? { path: scope.path('proxy') } : { host: '127.0.0.1', port: open.port };
    const where = proxy === undefined ? address : proxied(proxy);
    const kernel = [`--cache=${plan.cache}`, `--threads=${plan.threads}`];
    const ofBackend = plan.backend === 'kernel' ? kernel : [];
    const timeout = plan.faults === 'freezes' ? [`--timeout=${TIMEOUT}`] : [];
    const reconnect = ['--reconnect=forever', `--settle-time=${SETTLE_TIME}`];
    const keep = keepOptions(plan, scope.path('disk.cache'));
    const log = openSync(scope.path('nbdfuse.log'), 'a');
    this.#mounted = await mountDisk(scope, {
      server: [uriOf(where, '', plan.way === 'tls' ? pki : undefined)],
      options: [
        `--fuse-backend=${plan.backend}`,
        '-C',
        plan.connections,
        ...ofBackend,
        ...timeout,
        ...reconnect,
        ...keep,
      ],
      program: { stdio: ['ignore', 'ignore', log] },
    });
    closeSync(log);
    return this.#mounted;
  }

  async #unmount(): Promise<void> {
    await this.close();
    if (this.#mounted === undefined) return;
    const { program } = this.#mounted;
    program.child.kill('SIGTERM');
    const status = await program.endsWithin(15_000);
    if (status !== 0) throw new Finding(`nbdfuse ended with ${status}`);
    const [ours, theirs] = [readFileSync(this.#server.disk), readFileSync(this.#reference)];
    // A killed server with a cache has only the flushed data on its disk.
    const why = unequal(ours.subarray(0, this.#plan.size), theirs, 0);
    if (why !== undefined) throw new Finding(`on the server's disk ${why}`);
  }

  /** Kills the chunk server alone. @returns whether there was one */
  async #killChunkServer(): Promise<boolean> {
    const all = await processesOf(this.folder);
    const found = all.filter(({ command }) => /bin\/nbdfuse-chunks --coding/.test(command));
    for (const { pid } of found) tryKill(pid);
    return found.length > 0;
  }

  #logOf(index: number): string {
    return this.#surroundings.scope.path(`actor${index}.log`);
  }

  async #startActors(subject: string): Promise<void> {
    const { scope } = this.#surroundings;
    const plan = this.#plan;
    const areas = areasOf(plan);
    const stdio = ['ignore', 'ignore', 'inherit', 'ipc'] as const;
    this.#actors = areas.map(() => new Program(scope, process.execPath, [ACTOR], { stdio: [...stdio] }));
    await this.#tellAll((index) => ({
      kind: 'start',
      plan,
      index,
      area: areas[index],
      subject,
      reference: this.#reference,
      log: this.#logOf(index),
    }));
  }

  async #tellAll(messageFor: (index: number) => ToActor): Promise<void> {
    await Promise.all(this.#actors.map((_, index) => this.#tell(index, messageFor(index))));
  }

  async #tell(index: number, message: ToActor): Promise<void> {
    const actor = this.#actors[index].child;
    const over = new AbortController();
    let before: number | undefined;
    const timer = setInterval(() => {
      // Every operation is in the log before it begins.
      const now = statSync(this.#logOf(index), { throwIfNoEntry: false })?.size ?? 0;
      if (now === before) over.abort();
      before = now;
    }, PATIENCE);
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
      clearInterval(timer);
      over.abort();
      for (const promise of [answered, ended]) promise.catch(() => undefined);
    }
  }
}
