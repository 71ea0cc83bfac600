// The disks of the kill runs: one that a mount writes, and compressed images that it reads.

import { readFileSync, writeFileSync } from 'node:fs';
import { type FileHandle, rm } from 'node:fs/promises';
import { runProgram } from '../../test/support/run/command.js';
import type { Scope } from '../../test/support/run/scope.js';
import { uriOf } from '../../test/support/run/servers.js';
import type { Random } from '../simulate/random.js';
import { DiskServer, nbdkitOfDisk } from '../soak/server.js';
import { BLOCK, BlockModel } from './block-model.js';
import { Finding } from './finding.js';

/** Bytes of a disk: some units of the cache file. */
const SIZE = 8 * 1024 * 1024;
const BLOCKS = SIZE / BLOCK;
/** Most blocks of a request. */
const LONGEST = 80;

/** A disk that is mounted again and again. */
export interface Subject {
  /** The words after MOUNTPOINT. */
  readonly words: readonly string[];
  readonly options: readonly string[];
  /** Prepares what a mount needs: called before each. */
  start(): Promise<void>;
  /** Ends what a mount needs: everything may have been killed. */
  stop(): Promise<void>;
  /** One random operation. @throws the errors of the system; Finding */
  play(file: FileHandle): Promise<void>;
  /** Compares all bytes of a new mount. @throws Finding; the errors of the system */
  settle(file: FileHandle): Promise<void>;
  /** Puts another disk in the place of this one. */
  exchange(): Promise<void>;
}

async function readAll(file: FileHandle): Promise<Buffer> {
  const bytes = Buffer.alloc(SIZE);
  for (let at = 0; at < SIZE; )
    at += (await file.read(bytes, at, Math.min(1024 * 1024, SIZE - at), at)).bytesRead;
  return bytes;
}

export type WrittenKind = 'file' | 'volatile' | 'child';

/** A disk behind nbdkit; `volatile` loses unflushed writes, `child` is a program in brackets. */
export class WrittenDisk implements Subject {
  readonly options: readonly string[];
  readonly #random: Random;
  readonly #kind: WrittenKind;
  readonly #server: DiskServer;
  #disks = 0;
  #model = new BlockModel(BLOCKS, 0);

  constructor(scope: Scope, kind: WrittenKind, random: Random) {
    this.#random = random;
    this.#kind = kind;
    const filters = kind === 'volatile' ? ['--filter=cache'] : [];
    this.#server = new DiskServer(scope, 'disk', SIZE, nbdkitOfDisk(undefined, filters));
    writeFileSync(this.#server.disk, this.#model.image);
    // The server is killed or ends in order with each mount: it has no writes of a killed chunk server for long.
    this.options = ['--settle-time=0.2', ...(kind === 'child' ? ['--restart'] : [])];
  }

  get words(): readonly string[] {
    if (this.#kind === 'child') return ['[', 'nbdkit', 'file', this.#server.disk, ']'];
    return [uriOf({ path: this.#server.socket })];
  }

  async start(): Promise<void> {
    if (this.#kind !== 'child' && !this.#server.running) await this.#server.start();
  }

  async stop(): Promise<void> {
    if (this.#kind !== 'child') await this.#server.kill();
  }

  async play(file: FileHandle): Promise<void> {
    const random = this.#random;
    const first = random.below(BLOCKS);
    const count = Math.min(random.between(1, LONGEST), BLOCKS - first);
    const kind = random.below(10);
    if (kind < 5) {
      const bytes = this.#model.write(first, count);
      await file.write(bytes, 0, bytes.length, first * BLOCK);
    } else if (kind < 9) {
      const bytes = Buffer.alloc(count * BLOCK);
      await file.read(bytes, 0, bytes.length, first * BLOCK);
      this.#model.check(first, bytes, true);
    } else {
      const flushed = this.#model.flush();
      await file.sync();
      flushed();
    }
  }

  async settle(file: FileHandle): Promise<void> {
    const bytes = await readAll(file);
    this.#model.check(0, bytes, false);
    await file.sync();
    if (!readFileSync(this.#server.disk).subarray(0, SIZE).equals(bytes))
      throw new Finding("the mount shows other bytes than the server's disk has");
    this.#model.settle(bytes);
  }

  async exchange(): Promise<void> {
    await this.stop();
    this.#model = new BlockModel(BLOCKS, ++this.#disks);
    writeFileSync(this.#server.disk, this.#model.image);
  }
}

const PACKERS = {
  xz: ['xz', '-0', '-k', '--block-size=512KiB'],
  'xz in one block': ['xz', '-0', '-k'],
  gz: ['gzip', '-1', '-k'],
  zst: ['zstd', '-q', '-1', '-k'],
} as const;

export type PackedKind = keyof typeof PACKERS;
export const PACKED_KINDS = Object.keys(PACKERS) as PackedKind[];

/** A compressed image, which is only read. */
export class PackedImage implements Subject {
  readonly options: readonly string[] = [];
  readonly #scope: Scope;
  readonly #kind: PackedKind;
  readonly #random: Random;
  #bytes = Buffer.alloc(0);

  constructor(scope: Scope, kind: PackedKind, random: Random) {
    this.#scope = scope;
    this.#kind = kind;
    this.#random = random;
  }

  get words(): readonly string[] {
    return [this.#scope.path(`image.raw.${this.#kind.split(' ')[0]}`)];
  }

  async start(): Promise<void> {
    if (this.#bytes.length === 0) await this.exchange();
  }

  async stop(): Promise<void> {}

  async play(file: FileHandle): Promise<void> {
    const at = this.#random.below(SIZE);
    const length = Math.min(this.#random.between(1, LONGEST * BLOCK), SIZE - at);
    const found = Buffer.alloc(length);
    await file.read(found, 0, length, at);
    if (!found.equals(this.#bytes.subarray(at, at + length)))
      throw new Finding(`the ${length} bytes at offset ${at} are not those of the image`);
  }

  async settle(file: FileHandle): Promise<void> {
    for (let i = 0; i < 10; i++) await this.play(file);
  }

  async exchange(): Promise<void> {
    const [image, [packed]] = [this.#scope.path('image.raw'), this.words];
    const bytes = Buffer.alloc(SIZE);
    for (let at = 0; at < SIZE; at += BLOCK)
      if (this.#random.chance(0.7)) bytes.fill(`${this.#random.below(2 ** 31)} at ${at}; `, at, at + BLOCK);
    writeFileSync(image, bytes);
    await rm(packed, { force: true });
    const [program, ...words] = PACKERS[this.#kind];
    await runProgram(program, ...words, image);
    this.#bytes = bytes;
  }
}
