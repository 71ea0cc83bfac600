// NbdClient beside libnbd's Python: random reads of one nbdkit on a Unix socket, by turns in one run.
//
// Each side is a process that stays for a whole case. A turn is short and there are many of them, so that other work on
// the machine meets both sides.

import { execFileSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { Program } from '../../../test/support/run/program.js';
import type { Scope } from '../../../test/support/run/scope.js';
import { nbdkit } from '../servers.js';

/** The interpreter of Debian's python3-libnbd. */
const PYTHON = '/usr/bin/python3';
const TOOLS = 'tools/bench/library';
const OURS = 'tools/build/tools/bench/library/reader.js';

/** Seconds of a turn. */
const TURN = 0.2;

/** Kinds of reads; the last ones have four connections, and libnbd's Python still one. */
const KINDS = [
  { text: '1 MiB, depth 1', connections: 1, length: 2 ** 20, depth: 1, bar: 1 },
  { text: '1 MiB, depth 64', connections: 1, length: 2 ** 20, depth: 64, bar: 1 },
  { text: '4k, depth 1', connections: 1, length: 4096, depth: 1, bar: 1 },
  { text: '4k, depth 64', connections: 1, length: 4096, depth: 64, bar: 1 },
  { text: '1 MiB, depth 64, 4 connections', connections: 4, length: 2 ** 20, depth: 64, bar: 1.5 },
  { text: '4k, depth 64, 4 connections', connections: 4, length: 4096, depth: 64, bar: 1.5 },
] as const;

/** Bytes per second of each turn. */
export interface LibraryReads {
  readonly text: string;
  readonly bar: number;
  readonly ours: readonly number[];
  readonly python: readonly number[];
}

/** A reader in a process, which reads for a number of seconds at a time. */
class Reader {
  readonly #program: Program;
  readonly #answers: AsyncIterator<string>;

  constructor(scope: Scope, command: string, args: readonly string[]) {
    this.#program = new Program(scope, command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const { stdout } = this.#program.child;
    if (stdout === null) throw new Error('the reader has no output');
    this.#answers = createInterface(stdout)[Symbol.asyncIterator]();
  }

  async read(seconds: number): Promise<number> {
    this.#program.child.stdin?.write(`${seconds}\n`);
    const { value, done } = await this.#answers.next();
    if (done === true) throw new Error('a reader has ended; is python3-libnbd installed?');
    return Number(value);
  }

  async end(): Promise<void> {
    this.#program.child.stdin?.end();
    await this.#program.ended;
  }
}

/** Fills the disk: nbdkit answers a read of nothing without the copy. */
function fill(uri: string): void {
  const script = `
import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
for at in range(0, h.get_size(), 1 << 20):
    h.pwrite(bytes(range(256)) * 4096, at)
`;
  execFileSync(PYTHON, ['-c', script, uri], { stdio: ['ignore', 'ignore', 'inherit'] });
}

/** Measures all kinds. @param turns of each side and kind that count */
export async function measureLibrary(scope: Scope, turns: number): Promise<readonly LibraryReads[]> {
  const { uri } = await nbdkit(scope, 'memory', '512M');
  fill(uri);
  const results: LibraryReads[] = [];
  for (const { text, bar, connections, length, depth } of KINDS) {
    const shape = [String(length), String(depth)];
    const python = new Reader(scope, PYTHON, [`${TOOLS}/reader.py`, uri, ...shape]);
    const ours = new Reader(scope, process.execPath, [
      OURS,
      'dist/index.js',
      uri,
      String(connections),
      ...shape,
    ]);
    const found = { ours: [] as number[], python: [] as number[] };
    // The first turns compile the code.
    for (let i = -2; i < turns; i++) {
      const [theirs, own] = [await python.read(TURN), await ours.read(TURN)];
      if (i < 0) continue;
      found.python.push(theirs);
      found.ours.push(own);
    }
    await Promise.all([python.end(), ours.end()]);
    results.push({ text, bar, ...found });
  }
  return results;
}
