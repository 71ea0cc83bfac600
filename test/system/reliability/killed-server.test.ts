// A real server with a cache of its own (nbdkit's cache filter, which writes only at a FLUSH) is killed at
// random moments: afterwards every write that has returned is readable, and on the disk once fsync has
// returned.

import { existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile } from '../../support/files.js';
import { mountDisk } from '../../support/run/mount.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit');

const MIB = 1024 * 1024;
const SIZE = 32 * MIB;
const BLOCK = 8192;
const WRITERS = 3;
/** Blocks of one writer, which no other writes to. */
const AREA = 256;
const KILLS = 8;

/** Random numbers from 0 to 1 that a seed repeats (mulberry32). */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function content(at: number, age: number): Buffer {
  return Buffer.alloc(BLOCK, `block ${at} age ${age}; `);
}

/** $1: disk, $2: socket, $3: pidfile. Starts a server for each input line, one after another. */
const SUPERVISOR =
  'while read -r _; do rm -f "$2" "$3"; nbdkit -f -U "$2" -P "$3" --filter=cache file "$1"; done';

/**
 * A server that is killed and started again, by a shell that holds no file of the mount open: a child that
 * this process forks would, and closing it waits for writes that wait for the server.
 */
class VolatileServer {
  readonly disk: string;
  readonly uri: string;
  readonly #supervisor: Program;
  readonly #pidfile: string;

  constructor(scope: Scope) {
    const socket = scope.path('socket');
    this.disk = scope.path('disk.raw');
    this.uri = `nbd+unix:///?socket=${socket}`;
    this.#pidfile = scope.path('server.pid');
    writeFileSync(this.disk, '');
    truncateSync(this.disk, SIZE);
    const words = ['-c', SUPERVISOR, 'supervisor', this.disk, socket, this.#pidfile];
    this.#supervisor = new Program(scope, 'sh', words, { stdio: ['pipe', 'ignore', 'ignore'] });
  }

  async start(): Promise<void> {
    rmSync(this.#pidfile, { force: true });
    this.#supervisor.child.stdin?.write('\n');
    await this.#supervisor.fills(this.#pidfile);
  }

  async kill(): Promise<void> {
    const pid = Number(readFileSync(this.#pidfile, 'utf8'));
    process.kill(pid, 'SIGKILL');
    await until('the end of the server', () => !existsSync(`/proc/${pid}`));
  }
}

/** Writes blocks of one area at random, with an fsync now and then, until the test stops it. */
class Writer {
  /** The age of each block after its last write that has returned, by number. */
  readonly written = new Map<number, number>();
  /** The same at the beginning of the last fsync that has returned. */
  synced = new Map<number, number>();
  stopped = false;
  readonly #file: FileHandle;
  readonly #first: number;
  readonly #random: () => number;
  #age = 0;

  constructor(file: FileHandle, first: number, random: () => number) {
    this.#file = file;
    this.#first = first;
    this.#random = random;
  }

  async run(): Promise<void> {
    while (!this.stopped) {
      if (this.#random() < 0.03) await this.sync();
      const at = this.#first + Math.floor(this.#random() * AREA);
      const age = ++this.#age;
      await this.#file.write(content(at, age), 0, BLOCK, at * BLOCK);
      this.written.set(at, age);
    }
  }

  async sync(): Promise<void> {
    const before = new Map(this.written);
    await this.#file.sync();
    this.synced = before;
  }
}

function differences(bytes: Buffer, expected: ReadonlyMap<number, number>): string[] {
  const found: string[] = [];
  for (const [at, age] of expected) {
    const there = bytes.subarray(at * BLOCK, (at + 1) * BLOCK);
    if (!there.equals(content(at, age)))
      found.push(`block ${at} of age ${age}: ${there.toString('utf8', 0, 24)}`);
  }
  return found;
}

it.each([
  ['through the cache', ['-C', '4']],
  ['past the cache, by several connections', ['--cache=none', '-C', '4']],
  ['past the cache, by one connection', ['--cache=none', '-C', '1']],
])(
  'killed server: no write that has returned is lost: %s',
  async (_, options) => {
    const scope = createScope();
    const random = randomNumbers(options.length * 1000 + options.join('').length);
    const server = new VolatileServer(scope);
    await server.start();
    const disk = await mountDisk(scope, { server: [server.uri], options });
    const writers: Writer[] = [];
    for (let i = 0; i < WRITERS; i++)
      writers.push(new Writer(await openFile(scope, disk.file, 'r+'), i * AREA, random));
    const running = writers.map((writer) => writer.run());
    for (let kill = 0; kill < KILLS; kill++) {
      await new Promise((resolve) => setTimeout(resolve, 20 + 200 * random()));
      await server.kill();
      await server.start();
    }
    for (const writer of writers) writer.stopped = true;
    await Promise.all(running);
    const file = await openFile(scope, disk.file, 'r');
    const { buffer } = await file.read(Buffer.alloc(SIZE), 0, SIZE, 0);
    for (const { written } of writers) expect(differences(buffer, written)).toEqual([]);
    for (const writer of writers) await writer.sync();
    await server.kill();
    const raw = readFileSync(server.disk);
    for (const { synced, written } of writers) {
      expect(synced).toEqual(written);
      expect(differences(raw, synced)).toEqual([]);
    }
    await server.start();
  },
  30_000,
);

it('killed server: data is on the disk after fsync although the server dies at once', async () => {
  const scope = createScope();
  const random = randomNumbers(4711);
  const server = new VolatileServer(scope);
  await server.start();
  const disk = await mountDisk(scope, { server: [server.uri], options: ['-C', '4'] });
  const writer = new Writer(await openFile(scope, disk.file, 'r+'), 0, random);
  for (let round = 0; round < 4; round++) {
    const running = writer.run();
    await new Promise((resolve) => setTimeout(resolve, 30));
    writer.stopped = true;
    await running;
    await writer.sync();
    await server.kill();
    expect(differences(readFileSync(server.disk), writer.synced)).toEqual([]);
    writer.stopped = false;
    await server.start();
  }
  expect(disk.stderr).toMatch(/reconnected/);
});
