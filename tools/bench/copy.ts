// cp --sparse=always of a disk that is nearly all holes: a mount that queries the server's extents finishes
// at once, any other reads every hole. The copy is compared with the source.

import { closeSync, ftruncateSync, openSync, readSync, rmSync, statSync, writeSync } from 'node:fs';
import { runWithin } from '../../test/support/run/program.js';
import type { Scope } from '../../test/support/run/scope.js';
import { nbdkit } from './servers.js';
import { mount, type Side } from './sides.js';

const PIECES = 100;
const PIECE_BYTES = 2 ** 20;
/** A peer that reads 100 GiB of holes needs more than a minute. */
const PATIENCE_SECONDS = 400;

/** Seconds that the copy took. */
export interface Copied {
  readonly side: string;
  readonly gibibytes: number;
  readonly seconds: number;
}

const piece = (number: number): Buffer => Buffer.alloc(PIECE_BYTES, number + 1);

/** Makes a file of `gibibytes` with 100 distant data ranges of 1 MiB. */
function makeSparse(path: string, gibibytes: number): (number: number) => number {
  const bytes = gibibytes * 2 ** 30;
  const step = Math.floor(bytes / PIECES / PIECE_BYTES) * PIECE_BYTES;
  const file = openSync(path, 'w');
  ftruncateSync(file, bytes);
  for (let i = 0; i < PIECES; i++) writeSync(file, piece(i), 0, PIECE_BYTES, i * step);
  closeSync(file);
  return (number) => number * step;
}

function compare(path: string, bytes: number, offset: (number: number) => number): void {
  const { size, blocks } = statSync(path);
  if (size !== bytes) throw new Error(`the copy has ${size} bytes, not ${bytes}`);
  if (blocks * 512 > 2 * PIECES * PIECE_BYTES) throw new Error(`the copy takes ${blocks * 512} bytes`);
  const file = openSync(path, 'r');
  const found = Buffer.alloc(PIECE_BYTES);
  for (let i = 0; i < PIECES; i++) {
    readSync(file, found, 0, PIECE_BYTES, offset(i));
    if (!found.equals(piece(i))) throw new Error(`the copy differs at ${offset(i)}`);
  }
  closeSync(file);
}

/** Copies once with each side. `gibibytes`: the disk's size, of which 100 MiB are data. */
export async function measureCopy(
  outer: Scope,
  sides: readonly Side[],
  gibibytes: number,
): Promise<readonly Copied[]> {
  const scope = outer.inner();
  const source = scope.path('sparse');
  const offset = makeSparse(source, gibibytes);
  const target = await nbdkit(scope, 'file', source);
  const results: Copied[] = [];
  for (const side of sides) {
    const mounted = await mount(scope, side, target);
    const copy = scope.path('copy');
    const before = performance.now();
    await runWithin(scope, PATIENCE_SECONDS, ['cp', '--sparse=always', mounted.file, copy]);
    results.push({ side: side.name, gibibytes, seconds: (performance.now() - before) / 1000 });
    compare(copy, gibibytes * 2 ** 30, offset);
    rmSync(copy);
    await mounted.unmount();
  }
  return results;
}
