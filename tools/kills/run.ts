// `npm run fuzz:kills -- --seconds N --seed S`: kills mounts with a cache file at random moments, mounts again with the
// same cache file, and compares every byte.
//
// Each seed is a case: a disk, a place for the cache file, and rounds. A round mounts, compares all bytes, plays random
// operations, and kills the chunk server, nbdfuse, or everything, the server of the disk too. Between rounds another
// disk of the same size may take the place of the disk. Exits with 1 after a finding.
//
// It runs in a PID and a mount namespace of its own: a mount that a kill has damaged ends with them.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { runProgram } from '../../test/support/run/command.js';
import { type MountedDisk, mountDisk } from '../../test/support/run/mount.js';
import { processesOf, type Scope } from '../../test/support/run/scope.js';
import { runToEnd } from '../run-to-end.js';
import { Random } from '../simulate/random.js';
import { Finding } from './finding.js';
import {
  PACKED_KINDS,
  PackedImage,
  type PackedKind,
  type Subject,
  WrittenDisk,
  type WrittenKind,
} from './subject.js';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '300' },
    seed: { type: 'string', default: '1' },
    /** One of the disks. */
    disk: { type: 'string' },
  },
});
const [seconds, firstSeed] = [Number(values.seconds), Number(values.seed)];

/** Rounds of a case. */
const ROUNDS = 6;
/** Most milliseconds from the mount to the kill. */
const LATEST = 1500;
/** Most milliseconds for which a round may stand still. */
const PATIENCE = 90_000;

const WRITTEN: readonly WrittenKind[] = ['file', 'volatile', 'child'];
const DISKS: readonly (WrittenKind | PackedKind)[] = [...WRITTEN, ...PACKED_KINDS];

/** The processes that a kill ends: `none` is an end in order. */
const VICTIMS = ['chunk server', 'nbdfuse', 'all', 'all', 'none'] as const;
type Victim = (typeof VICTIMS)[number];

/** Marks the process that is in the namespaces. */
const INSIDE = 'NBDFUSE_KILLS_INSIDE';

const isWritten = (disk: string): disk is WrittenKind => WRITTEN.some((one) => one === disk);

const tally = { rounds: 0, operations: 0, errors: 0, full: 0, exchanges: 0 };

/** One case. */
class Case {
  readonly disk: WrittenKind | PackedKind;
  readonly #scope: Scope;
  readonly #random: Random;
  readonly #subject: Subject;
  readonly #options: readonly string[];
  /** Whether the file system of the cache file is too small for it. */
  readonly #isFull: boolean;

  constructor(scope: Scope, seed: number) {
    const random = new Random(seed);
    this.#scope = scope;
    this.#random = random;
    const drawn = random.oneOf(DISKS);
    this.disk = DISKS.find((one) => one === values.disk) ?? drawn;
    this.#subject = isWritten(this.disk)
      ? new WrittenDisk(scope, this.disk, random)
      : new PackedImage(scope, this.disk, random);
    this.#isFull = random.chance(0.25);
    const more = random.oneOf([[], ['--prefetch'], ['--cache-size=16M', '--cache-memory=16M']]);
    const cache = `--cache-file=${scope.path('cache', 'disk')}`;
    this.#options = [cache, '--cache=none', '--reconnect=60', ...more, ...this.#subject.options];
  }

  async play(): Promise<void> {
    mkdirSync(this.#scope.path('cache'));
    if (this.#isFull) {
      await runProgram('mount', '-t', 'tmpfs', '-o', 'size=3m', 'kills', this.#scope.path('cache'));
      tally.full++;
    }
    for (let round = 0; round < ROUNDS; round++) {
      if (round > 0 && this.#random.chance(0.15)) {
        await this.#subject.exchange();
        tally.exchanges++;
      }
      await this.#subject.start();
      await this.#round(this.#random.oneOf(VICTIMS));
      tally.rounds++;
    }
  }

  async #round(victim: Victim): Promise<void> {
    const mounting = this.#mount();
    if (victim === 'all' && this.#random.chance(0.2)) {
      // Whatever becomes of the mount.
      mounting.catch(() => undefined);
      await pause(this.#random.below(LATEST));
      await this.#kill(victim);
      await mounting.catch(() => undefined);
      await this.#kill(victim);
      return;
    }
    const mounted = await mounting;
    const file = await open(mounted.file, isWritten(this.disk) ? 'r+' : 'r');
    try {
      await this.#subject.settle(file);
      const killed = pause(this.#random.below(LATEST)).then(() => this.#kill(victim, mounted));
      await this.#playUntil(file, victim, killed);
    } finally {
      await file.close().catch(() => undefined);
    }
    await this.#end(mounted, victim);
  }

  /** Plays operations until the mount has ended, or a little longer than to the end of the chunk server. */
  async #playUntil(file: FileHandle, victim: Victim, killed: Promise<void>): Promise<void> {
    let isOver = false;
    const over = killed
      .then(() => pause(victim === 'chunk server' ? LATEST : 0))
      .then(() => {
        isOver = true;
      });
    while (!isOver) {
      try {
        await this.#subject.play(file);
        tally.operations++;
      } catch (error) {
        if (error instanceof Finding) throw error;
        // A mount that lives does not fail because its chunk server was killed, unless that ends its child, too.
        const mayFail = victim === 'nbdfuse' || victim === 'all' || this.disk === 'child';
        if (!mayFail && isWritten(this.disk)) throw new Finding(`${victim}: ${String(error)}`);
        tally.errors++;
        break;
      }
    }
    await over;
  }

  async #kill(victim: Victim, mounted?: MountedDisk): Promise<void> {
    if (victim === 'none') return;
    const all = await processesOf(this.#scope.folder);
    const isVictim = ({ pid, command }: { pid: number; command: string }): boolean => {
      if (victim === 'all') return true;
      return victim === 'nbdfuse' ? pid === mounted?.program.pid : /nbdfuse-chunks --coding/.test(command);
    };
    for (const { pid } of all.filter(isVictim)) tryKill(pid);
  }

  async #end({ program }: MountedDisk, victim: Victim): Promise<void> {
    program.child.kill('SIGTERM');
    if ((await program.endsWithin(PATIENCE)) === undefined) throw new Finding('nbdfuse does not end');
    // The servers of a killed nbdfuse end after it.
    const names = victim === 'all' ? /./ : /nbdfuse-chunks/;
    for (let i = 0; i < 100; i++) {
      const left = (await processesOf(this.#scope.folder)).filter(({ command }) => names.test(command));
      if (left.length === 0) break;
      if (victim === 'all') for (const { pid } of left) tryKill(pid);
      await pause(100);
    }
    await this.#subject.stop();
  }

  #mount(): Promise<MountedDisk> {
    return mountDisk(this.#scope, { server: this.#subject.words, options: this.#options });
  }
}

function tryKill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}

async function main(scope: Scope): Promise<void> {
  const end = performance.now() + seconds * 1000;
  for (let seed = firstSeed; performance.now() < end; seed++) {
    const inner = scope.inner();
    const one = new Case(inner, seed);
    try {
      await one.play();
      console.error(`seed ${seed}: ${one.disk}`);
    } catch (error) {
      console.error(`seed ${seed}: ${one.disk}: ${error instanceof Finding ? error.message : String(error)}`);
      process.exitCode = 1;
    }
    inner.endNow();
  }
  const { rounds, operations, errors, full, exchanges } = tally;
  console.log(
    `${rounds} rounds, ${operations} operations, ${errors} of them ended by a kill, ${exchanges} exchanged disks, ` +
      `${full} cases with a full disk`,
  );
}

if (process.env[INSIDE] === undefined) {
  const words = [
    '-pfm',
    '--mount-proc',
    process.execPath,
    fileURLToPath(import.meta.url),
    ...process.argv.slice(2),
  ];
  // A kill leaves the directories of sockets, and ends those that would remove them.
  const folder = mkdtempSync(join(tmpdir(), 'nbdfuse-kills-'));
  const env = { ...process.env, [INSIDE]: '1', TMPDIR: folder };
  process.exitCode = spawnSync('unshare', words, { stdio: 'inherit', env }).status ?? 1;
  rmSync(folder, { recursive: true, force: true });
} else await runToEnd(main);
