// The cases of compressed images: whole, in scattered places, and at the next mount from a cache file.

import type { Scope } from '../../../test/support/run/scope.js';
import { median } from '../measure.js';
import { type MountWords, mountWords, PEER, type Side } from '../sides.js';
import { XZ } from './images.js';
import type { LazyCase, LazyField } from './lazy-case.js';
import { byCommand, checkOutput, readScattered, readWhole, secondsOf } from './reading.js';
import { takeTurns } from './turns.js';
import { startWeb } from './web.js';

/** Milliseconds before each response. */
const AWAY = 20;

/** Seconds of a whole read from the command to the last byte, in a mount of its own. */
async function whole(scope: Scope, side: Side, words: MountWords, raw: string): Promise<number> {
  const mounted = await mountWords(scope, side, words);
  const seconds = mounted.ready / 1000 + (await readWhole(scope, mounted.file, raw));
  await mounted.unmount();
  return seconds;
}

async function xzWhole(outer: Scope, { ours, images, mebibytes, rounds }: LazyField) {
  const raw = await images.raw(mebibytes);
  const name = await images.compressed(raw, 'xz', XZ);
  const web = await startWeb(outer, images.folder, AWAY);
  const decode = `xz -T2 -dc "${images.folder}/${name}"`;
  await checkOutput(outer, decode, raw);
  const all = await takeTurns(outer, rounds, [
    {
      name: 'ours',
      play: async (scope) => ({ whole: await whole(scope, ours, { server: [web.url(name)] }, raw) }),
    },
    {
      name: 'peer',
      play: async (scope) => ({ whole: await whole(scope, PEER, byCommand(web.url(name), 'xz'), raw) }),
    },
    { name: 'xz', play: async (scope) => ({ whole: await secondsOf(scope, `${decode} >/dev/null`) }) },
  ]);
  const row = { text: 'xz: whole image', unit: 's', ours: all.of('ours', 'whole') } as const;
  return [
    { ...row, other: all.of('peer', 'whole'), otherName: PEER.name, bar: { faster: 2.5 } },
    {
      ...row,
      other: all.of('xz', 'whole'),
      otherName: '`xz -T2 -dc` of the local file',
      bar: { within: 1.3 },
    },
  ];
}

/** Seconds of the first visit, from the command to the last byte, and of the second one. */
async function twoVisits(scope: Scope, side: Side, words: MountWords, raw: string) {
  const mounted = await mountWords(scope, side, words);
  const [first, second] = await readScattered(scope, mounted.file, raw, 2);
  await mounted.unmount();
  return { first: first + mounted.ready / 1000, second };
}

async function xzScattered(outer: Scope, { ours, images, mebibytes, rounds }: LazyField) {
  const raw = await images.raw(mebibytes);
  const name = await images.compressed(raw, 'xz', XZ);
  const web = await startWeb(outer, images.folder, AWAY);
  const all = await takeTurns(outer, rounds, [
    { name: 'ours', play: (scope) => twoVisits(scope, ours, { server: [web.url(name)] }, raw) },
    { name: 'peer', play: (scope) => twoVisits(scope, PEER, byCommand(web.url(name), 'xz'), raw) },
  ]);
  const row = (visit: string, faster: number) => ({
    text: `xz: 60 scattered 4k reads, ${visit} visit`,
    unit: 's' as const,
    ours: all.of('ours', visit),
    other: all.of('peer', visit),
    otherName: PEER.name,
    bar: { faster },
  });
  return [row('first', 1.8), row('second', 1000)];
}

/** How often the next mount is repeated in a round: a visit takes milliseconds. */
const MOUNTS = 5;

/** Seconds of the first visit after each of some mounts: the median. */
async function freshVisits(scope: Scope, side: Side, words: MountWords, raw: string): Promise<number> {
  const seconds: number[] = [];
  for (let i = 0; i < MOUNTS; i++) {
    const mounted = await mountWords(scope, side, words);
    seconds.push(...(await readScattered(scope, mounted.file, raw, 1)));
    await mounted.unmount();
  }
  return median(seconds);
}

async function xzNextMount(outer: Scope, { ours, images, mebibytes, rounds }: LazyField) {
  const raw = await images.raw(mebibytes);
  const name = await images.compressed(raw, 'xz', XZ);
  const all = await takeTurns(outer, rounds, [
    {
      name: 'cached',
      play: async (scope) => {
        const web = await startWeb(scope, images.folder, AWAY);
        const words = { server: [web.url(name)], options: [`--cache-file=${scope.path('cache')}`] };
        await twoVisits(scope, ours, words, raw);
        await web.stop();
        return { visit: await freshVisits(scope, ours, words, raw) };
      },
    },
    {
      name: 'raw',
      play: async (scope) => ({ visit: await freshVisits(scope, ours, { server: [raw] }, raw) }),
    },
  ]);
  return [
    {
      text: 'xz: 60 scattered 4k reads at the next mount, `--cache-file`, server stopped',
      unit: 's' as const,
      ours: all.of('cached', 'visit'),
      other: all.of('raw', 'visit'),
      otherName: 'nbdfuse on the local raw file',
      bar: { within: 1.5 },
    },
  ];
}

/** Seconds of a whole read, from the command to the last byte, and of scattered reads in the same mount. */
async function passAndVisit(scope: Scope, side: Side, words: MountWords, raw: string) {
  const mounted = await mountWords(scope, side, words);
  const ready = mounted.ready / 1000;
  const pass = ready + (await readWhole(scope, mounted.file, raw));
  const [after] = await readScattered(scope, mounted.file, raw, 1);
  await mounted.unmount();
  return { pass, after, unpacked: ready + after };
}

async function gzip(outer: Scope, { ours, images, mebibytes, rounds }: LazyField) {
  const raw = await images.raw(mebibytes);
  const name = await images.compressed(raw, 'gz', 'gzip');
  const web = await startWeb(outer, images.folder, AWAY);
  const decode = `gzip -dc "${images.folder}/${name}"`;
  await checkOutput(outer, decode, raw);
  const server = [web.url(name)];
  const kept = (scope: Scope) => ({ server, options: [`--cache-file=${scope.path('cache')}`] });
  const all = await takeTurns(outer, rounds, [
    { name: 'ours', play: (scope) => passAndVisit(scope, ours, { server }, raw) },
    { name: 'kept', play: (scope) => passAndVisit(scope, ours, kept(scope), raw) },
    { name: 'peer', play: (scope) => passAndVisit(scope, PEER, byCommand(web.url(name), 'gzip'), raw) },
    { name: 'gzip', play: async (scope) => ({ pass: await secondsOf(scope, `${decode} >/dev/null`) }) },
  ]);
  const unpacked = {
    unit: 's' as const,
    other: all.of('peer', 'unpacked'),
    otherName: `${PEER.name}, whose filter unpacks all into a file before its first read`,
  };
  const pass = { unit: 's' as const, text: 'gzip: first pass', ours: all.of('ours', 'pass') };
  const after = 'gzip: 60 scattered 4k reads after it';
  return [
    {
      ...pass,
      other: all.of('gzip', 'pass'),
      otherName: '`gzip -dc` of the local file',
      bar: { within: 1.2 },
    },
    { ...pass, other: all.of('peer', 'pass'), otherName: PEER.name, bar: undefined },
    { ...unpacked, text: `${after}, \`--cache-file\``, ours: all.of('kept', 'after'), bar: { faster: 100 } },
    { ...unpacked, text: after, ours: all.of('ours', 'after'), bar: undefined },
  ];
}

/** In the order of the table. */
export const COMPRESSED_CASES: readonly LazyCase[] = [
  { name: 'lazy-xz-whole', text: 'an xz image on a web server, whole', measure: xzWhole },
  { name: 'lazy-xz-scattered', text: 'an xz image on a web server, 60 places twice', measure: xzScattered },
  { name: 'lazy-xz-cached', text: 'the same from a cache file, without the server', measure: xzNextMount },
  { name: 'lazy-gzip', text: 'a gzip image on a web server: whole, then 60 places', measure: gzip },
];
