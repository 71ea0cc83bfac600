// Cache files of images on web servers: the next mount reads from them, also without a network.

import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { storedStream } from '../../support/chunks/stored-xz.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import {
  type FaultyWebServer,
  startFaultyWebServer,
  type WebFault,
} from '../../support/faulty-web-server.js';
import { readAt } from '../../support/files.js';
import { runProgram, runShell, tryProgram } from '../../support/run/command.js';
import { type MountedDisk, mountDisk, NBDFUSE } from '../../support/run/mount.js';
import { requirePrograms, requireRoot } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'unshare', 'sfdisk');
requireRoot();

const MIB = 1024 * 1024;
const BYTES = randomBytes(3 * MIB);
/** A disk that no mount reads ahead to its end. */
const LARGE = randomBytes(48 * MIB);

/** A web server with the disk, compressed with xz or as it is. */
async function serve(scope: Scope, isPacked: boolean, bytes = BYTES): Promise<FaultyWebServer> {
  if (!isPacked) return startFaultyWebServer(scope, bytes);
  const blocks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += MIB / 2) blocks.push(bytes.subarray(at, at + MIB / 2));
  return startFaultyWebServer(scope, storedStream(...blocks), undefined, 'disk.img.xz');
}

/** Mounts the image with a cache file. @param prefix see MountRequest */
function mountCached(scope: Scope, { url }: FaultyWebServer, prefix: string[] = []): Promise<MountedDisk> {
  return mountDisk(scope, { server: [url], options: ['--cache-file', scope.path('cache')], prefix });
}

/** Mounts the image while the server is away, with a cache file that has its beginning. */
async function mountAway(scope: Scope, web: FaultyWebServer): Promise<MountedDisk> {
  const online = await mountCached(scope, web);
  expect((await readAt(online.file, 0, 4096)).equals(LARGE.subarray(0, 4096))).toBe(true);
  expect(await online.stop()).toBe(0);
  await web.goAway();
  const away = await mountCached(scope, web);
  expect((await readAt(away.file, 0, 4096)).equals(LARGE.subarray(0, 4096))).toBe(true);
  await expect(readAt(away.file, 44 * MIB, 4096)).rejects.toMatchObject({ code: 'EIO' });
  return away;
}

/** A disk with a partition of 1 MiB. */
async function partitioned(scope: Scope): Promise<typeof BYTES> {
  const path = scope.path('partitioned');
  await writeFile(path, BYTES);
  await runShell('echo "start=2048, size=2048" | sfdisk --quiet --wipe never "$0"', path);
  return Buffer.from(await readFile(path));
}

const withoutVersion: WebFault = ({ headers }) => {
  headers.ETag = headers['Last-Modified'] = undefined;
};

/** A tag that no condition can name. */
const withWeakTag: WebFault = ({ headers }) => {
  headers.ETag = 'W/"a-1"';
  headers['Last-Modified'] = undefined;
};

/** The server has another file, with a tag of its own. */
const withOtherTag: WebFault = (answer, { headers }) => {
  answer.headers.ETag = '"b-2"';
  if (headers['if-match'] !== '"a-1"') return;
  answer.status = 412;
  answer.body = Buffer.alloc(0);
  answer.headers = { ETag: '"b-2"' };
};

const isSame = async (disk: MountedDisk): Promise<boolean> => (await readFile(disk.file)).equals(BYTES);

/** In a network namespace without any network. */
const OFFLINE = ['unshare', '-n'];

describe.each([
  ['compressed image', true],
  ['raw image', false],
])('cache file of a %s on a web server', (_, isPacked) => {
  it('is emptied when the server, which tells no version, has another file of the same size', async () => {
    const scope = createScope();
    const other = randomBytes(BYTES.length);
    const [web, later] = [await serve(scope, isPacked), await serve(createScope(), isPacked, other)];
    web.fault = withoutVersion;
    const first = await mountCached(scope, web);
    expect(await isSame(first)).toBe(true);
    expect(await first.stop()).toBe(0);
    expect(later.file.length).toBe(web.file.length);
    web.file = later.file;
    const second = await mountCached(scope, web);
    expect((await readFile(second.file)).equals(other)).toBe(true);
    expect(await second.stop()).toBe(0);
  });

  it('saves the next mount from fetching what the first one has read', async () => {
    const scope = createScope();
    const web = await serve(scope, isPacked);
    const first = await mountCached(scope, web);
    expect(await isSame(first)).toBe(true);
    expect(await first.stop()).toBe(0);
    const before = web.requests.length;
    const second = await mountCached(scope, web);
    expect(await isSame(second)).toBe(true);
    expect(await second.stop()).toBe(0);
    const later = web.requests.slice(before).map(({ first: byte = 0 }) => byte);
    // The looks at the file: its first and last bytes, and some in between.
    expect(later.length).toBeLessThan(12);
  });

  it('is enough without a network, and one line has the error of nbdkit', async () => {
    const scope = createScope();
    const web = await serve(scope, isPacked);
    const online = await mountCached(scope, web);
    expect(await isSame(online)).toBe(true);
    expect(await online.stop()).toBe(0);
    const before = web.requests.length;
    const offline = await mountCached(scope, web, OFFLINE);
    expect(await isSame(offline)).toBe(true);
    expect(await offline.stop()).toBe(0);
    expect(web.requests).toHaveLength(before);
    const lines = offline.stderr.trimEnd().split('\n');
    expect(lines.filter((line) => line.includes('nbdkit: '))).toHaveLength(1);
    expect(lines.join('\n')).toContain(
      `nbdfuse: cannot reach ${web.url}: showing what ${scope.path('cache')} has`,
    );
    expect(lines.join('\n')).toContain('; what the cache file has is served without it');
  });

  it.each<[string, WebFault]>([
    ['drops each connection', () => 'drop'],
    ['is overloaded', (answer) => (answer.status = 503)],
  ])('is enough when the server %s', async (_name, fault) => {
    const scope = createScope();
    const web = await serve(scope, isPacked);
    const first = await mountCached(scope, web);
    expect(await isSame(first)).toBe(true);
    expect(await first.stop()).toBe(0);
    web.fault = fault;
    const second = await mountCached(scope, web);
    expect(second.stderr).toContain(`nbdfuse: cannot reach ${web.url}: showing what`);
    expect(await isSame(second)).toBe(true);
    expect(await second.stop()).toBe(0);
  });

  it('gives EIO without a network for what it does not have', async () => {
    const scope = createScope();
    const web = await serve(scope, isPacked, LARGE);
    const online = await mountCached(scope, web);
    expect((await readAt(online.file, 0, 4096)).equals(LARGE.subarray(0, 4096))).toBe(true);
    expect(await online.stop()).toBe(0);
    const offline = await mountCached(scope, web, OFFLINE);
    expect((await readAt(offline.file, 0, 4096)).equals(LARGE.subarray(0, 4096))).toBe(true);
    const read = readAt(offline.file, 44 * MIB, 4096).then(() => true);
    await expect(read).rejects.toMatchObject({ code: 'EIO' });
    expect(await offline.stop()).toBe(0);
  });

  it.each([
    ['an ETag', undefined],
    ['no version', withoutVersion],
    ['a weak ETag', withWeakTag],
  ])('is filled further when the server, which tells %s, comes back', async (_name, fault) => {
    const scope = createScope();
    const web = await serve(scope, isPacked, LARGE);
    web.fault = fault;
    const away = await mountAway(scope, web);
    await web.comeBack();
    await away.program.says(/: the server can be reached again\n/);
    expect((await readFile(away.file)).equals(LARGE)).toBe(true);
    expect(await away.stop()).toBe(0);
    const requests = web.requests.length;
    const next = await mountCached(scope, web);
    expect((await readFile(next.file)).equals(LARGE)).toBe(true);
    // The looks at the file, and the compared blocks.
    expect(web.requests.length - requests).toBeLessThan(24);
  });

  it.each([
    ['another ETag', withoutVersion, withOtherTag],
    ['no version', withoutVersion, withoutVersion],
    ['a weak ETag', withWeakTag, withWeakTag],
    ['an ETag', undefined, withOtherTag],
  ])('is all there is when the server comes back with another file and %s', async (_name, before, after) => {
    const scope = createScope();
    const other = await serve(createScope(), isPacked, Buffer.from(LARGE).reverse());
    const web = await serve(scope, isPacked, LARGE);
    web.fault = before;
    const away = await mountAway(scope, web);
    web.fault = after;
    web.file = other.file;
    await web.comeBack();
    await away.program.says(/: the server has another file now; .*: mount it again\n/);
    expect((await readAt(away.file, 0, 4096)).equals(LARGE.subarray(0, 4096))).toBe(true);
    const read = readAt(away.file, 44 * MIB, 4096).then(() => true);
    await expect(read).rejects.toMatchObject({ code: 'EIO' });
    expect(away.stderr.match(/another file now/g)).toHaveLength(1);
  });

  it('of one partition is refused for the whole disk without a network, with the next step', async () => {
    const scope = createScope();
    const web = await serve(scope, isPacked, await partitioned(scope));
    const cache = scope.path('cache');
    const options = ['--cache-file', cache, '--partition', '1'];
    const online = await mountDisk(scope, { server: [web.url], options });
    expect((await readFile(online.file)).length).toBe(MIB);
    expect(await online.stop()).toBe(0);
    const words = ['-n', process.execPath, NBDFUSE, '--cache-file', cache, scope.path('mnt'), web.url];
    const { status, stderr } = await tryProgram('unshare', ...words);
    expect(status).toBe(1);
    expect(stderr).toBe(
      `nbdfuse: cannot reach ${web.url}, and ${cache} is the cache of a part of it (--partition or --member): ` +
        'mount it again when the server is back\n',
    );
  });

  it('is emptied when the file at the server has changed', async () => {
    const scope = createScope();
    const web = await serve(scope, isPacked);
    const first = await mountCached(scope, web);
    expect(await isSame(first)).toBe(true);
    expect(await first.stop()).toBe(0);
    web.fault = ({ headers }) => {
      headers.ETag = '"b-2"';
    };
    const second = await mountCached(scope, web);
    const text = await runProgram('cat', scope.path('cache.index'));
    expect(text.includes('b-2')).toBe(true);
    expect(await second.stop()).toBe(0);
  });
});
