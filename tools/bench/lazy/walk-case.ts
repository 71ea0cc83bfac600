// The case of a walk: an ext4 file system on a raw image at a web server 50 ms away, of which 2000 small files are
// found and read, through a loop device on the mounted image.

import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runWithin } from '../../../test/support/run/program.js';
import type { Scope } from '../../../test/support/run/scope.js';
import { type MountWords, mountWords, PEER, type Side } from '../sides.js';
import { createRandom } from './data.js';
import type { LazyCase, LazyField } from './lazy-case.js';
import { byCommand } from './reading.js';
import { takeTurns } from './turns.js';
import { startWeb } from './web.js';

const AWAY = 50;
const FOLDERS = 100;
const SMALL_FILES = 20;
const LARGE_BYTES = 6 * 2 ** 20;
const PATIENCE_SECONDS = 900;

/** 100 folders of 20 files of 0.5 to 32 KiB, most of them small, each folder with a large file before the next one. */
function makeTree(folder: string): void {
  const random = createRandom(FOLDERS);
  const large = Buffer.alloc(LARGE_BYTES);
  for (let i = 0; i < FOLDERS; i++) {
    const below = join(folder, `folder-${i}`);
    mkdirSync(below, { recursive: true });
    for (let j = 0; j < SMALL_FILES; j++) {
      const bytes = 512 * 2 ** (random() % 7);
      writeFileSync(join(below, `small-${j}`), Buffer.alloc(bytes, `this is file ${j} of folder ${i}; `));
    }
    for (let at = 0; at < large.length; at += 4) large.writeUInt32LE(random(), at);
    writeFileSync(join(below, 'large'), large);
  }
}

/** Makes an ext4 image of 1 GiB from the tree. */
async function makeImage(scope: Scope, path: string): Promise<void> {
  const tree = scope.path('tree');
  makeTree(tree);
  await runWithin(scope, PATIENCE_SECONDS, ['mkfs.ext4', '-q', '-F', '-d', tree, path, '1G']);
  rmSync(tree, { recursive: true });
}

/** `find` and `cat` of all small files of the file system in $1; prints the hash of names and contents. */
const WALK = `
cd "$1"
find . -type f -name 'small-*' >"$2"
[ "$(wc -l <"$2")" = ${FOLDERS * SMALL_FILES} ]
{ cat "$2"; xargs cat <"$2"; } | sha256sum`;

/** Mounts the file system of an image; returns seconds of the walk, and its hash. */
async function walk(scope: Scope, image: string): Promise<{ seconds: number; hash: string }> {
  const point = scope.path('ext4');
  mkdirSync(point, { recursive: true });
  const before = performance.now();
  await runWithin(scope, PATIENCE_SECONDS, ['mount', '-o', 'loop,ro,noload', image, point]);
  const words = ['sh', '-e', '-c', WALK, 'sh', point, scope.path('names')];
  const hash = await runWithin(scope, PATIENCE_SECONDS, words);
  const seconds = (performance.now() - before) / 1000;
  await runWithin(scope, PATIENCE_SECONDS, ['umount', point]);
  return { seconds, hash };
}

async function measure(outer: Scope, { ours, images, rounds }: LazyField) {
  const raw = await images.file('walk.raw', (path) => makeImage(outer, path));
  const web = await startWeb(outer, images.folder, AWAY);
  const url = web.url('walk.raw');
  const local = await walk(outer, raw);
  /** Seconds from the command to the last byte. */
  const walkOf = async (scope: Scope, side: Side, words: MountWords): Promise<number> => {
    const mounted = await mountWords(scope, side, words);
    const { seconds, hash } = await walk(scope, mounted.file);
    if (hash !== local.hash) throw new Error(`${side.name} gave wrong bytes`);
    await mounted.unmount();
    return mounted.ready / 1000 + seconds;
  };
  const oursWith = (scope: Scope, options: readonly string[]): Promise<number> =>
    walkOf(scope, ours, { server: [url], options });
  const all = await takeTurns(outer, rounds, [
    {
      name: 'ours',
      play: async (scope) => {
        const [trace, cache] = [`--trace=${scope.path('trace')}`, `--cache-file=${scope.path('cache')}`];
        const first = await oursWith(scope, [trace, cache]);
        return { first, traced: await oursWith(scope, [trace]), cached: await oursWith(scope, [cache]) };
      },
    },
    { name: 'peer', play: async (scope) => ({ walk: await walkOf(scope, PEER, byCommand(url)) }) },
  ]);
  const row = (name: string, figure: string, faster: number) => ({
    text: `walk of 2000 small files of an ext4, ${AWAY} ms away, ${name}`,
    unit: 's' as const,
    ours: all.of('ours', figure),
    other: all.of('peer', 'walk'),
    otherName: PEER.name,
    bar: { faster },
  });
  return [
    row('first (`--trace --cache-file`)', 'first', 1),
    row('again with `--trace`', 'traced', 3),
    row('again with `--cache-file`', 'cached', 20),
  ];
}

export const WALK_CASE: LazyCase = {
  name: 'lazy-walk',
  text: 'find and cat of 2000 small files of an ext4 on a web server 50 ms away',
  measure,
};
