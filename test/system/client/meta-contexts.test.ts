// Metadata contexts of real servers: their names, and the extents of qemu's contexts.

import { execFileSync } from 'node:child_process';
import { expect, onTestFinished, test } from 'vitest';
import { listMetaContexts, NbdClient, type ServerAddress } from '../../../src/index.js';
import { createScope, scratchFolder } from '../../support/cleanup.js';
import { createQcow2 } from '../../support/run/images.js';
import { startStorageDaemon } from '../../support/run/servers.js';
import { connect, nbdkit } from '../../unit/client/support.js';

const KIB = 1024;
const CONTEXTS = [
  'base:allocation',
  'qemu:allocation-depth',
  'qemu:dirty-bitmap:monday',
  'qemu:dirty-bitmap:tuesday',
];

/** A qcow2 image of 4 MiB on a backing file, with two bitmaps; its first 64 KiB are in the backing file. */
function imageWithBitmaps(): string {
  const folder = scratchFolder();
  const path = createQcow2(`${folder}/disk.qcow2`, '4M');
  execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write 0 64k', path], { stdio: 'ignore' });
  const top = createQcow2(`${folder}/top.qcow2`, undefined, '-F', 'qcow2', '-b', path);
  for (const name of ['monday', 'tuesday']) execFileSync('qemu-img', ['bitmap', '--add', top, name]);
  return top;
}

/** A separate qemu-nbd on an image for each connection. */
function qemuNbd(path: string): ServerAddress {
  const options = ['-A', '-B', 'monday', '-B', 'tuesday', '--discard=unmap'];
  return { socketActivation: ['qemu-nbd', '-f', 'qcow2', ...options, path] };
}

test('listMetaContexts: without queries returns all contexts of an export ("NBD_OPT_LIST_META_CONTEXT")', async () => {
  expect(await listMetaContexts(nbdkit('memory', '1M'))).toEqual(['base:allocation']);
  expect((await listMetaContexts(qemuNbd(imageWithBitmaps()))).sort()).toEqual(CONTEXTS);
});

test('listMetaContexts: returns the contexts that match the queries; an empty leaf name matches a whole namespace', async () => {
  const path = imageWithBitmaps();
  const list = async (...queries: string[]) => (await listMetaContexts(qemuNbd(path), { queries })).sort();
  expect(await list('qemu:dirty-bitmap:')).toEqual(CONTEXTS.slice(2));
  expect(await list('qemu:')).toEqual(CONTEXTS.slice(1));
  expect(await list('base:')).toEqual(['base:allocation']);
  expect(await list('qemu:dirty-bitmap:monday', 'x-nobody:')).toEqual(['qemu:dirty-bitmap:monday']);
  expect(await list('x-nobody:')).toEqual([]);
});

test('listMetaContexts: reports a missing export, a bad query, and a server without contexts', async () => {
  const options = { exportName: 'other', onStderr: () => undefined };
  const server = qemuNbd(imageWithBitmaps());
  await expect(listMetaContexts(server, options)).rejects.toThrow(
    /^cannot list metadata contexts of export "other": /,
  );
  await expect(listMetaContexts(server, { queries: ['nonsense'] })).rejects.toThrow('namespace:leaf-name');
  const simple = ['--no-sr', 'memory', '1M'];
  await expect(listMetaContexts(nbdkit(...simple))).rejects.toThrow('lacks structured replies');
  await expect(listMetaContexts(nbdkit('--oldstyle', 'memory', '1M'))).rejects.toThrow('too old');
});

async function statusOf(client: NbdClient, context: string) {
  const status = await client.blockStatus(0, client.size, { contexts: [context] });
  return status[context].map(({ offset, length, flags }) => [
    Number(offset) / KIB,
    Number(length) / KIB,
    flags,
  ]);
}

test.each([
  ['qemu-nbd', async (path: string): Promise<ServerAddress> => qemuNbd(path)],
  [
    'qemu-storage-daemon',
    async (path: string): Promise<ServerAddress> => {
      const contexts = 'bitmaps.0=monday,bitmaps.1=tuesday,allocation-depth=on';
      return (await startStorageDaemon(createScope(), path, contexts)).uri('disk');
    },
  ],
])('dirty bitmaps: %s returns the writes since a bitmap was created, and their depth', async (_, serve) => {
  const client = await connect(await serve(imageWithBitmaps()), { metaContexts: CONTEXTS });
  expect([...client.metaContexts].sort()).toEqual(CONTEXTS);
  expect(await statusOf(client, 'qemu:dirty-bitmap:monday')).toEqual([[0, 4096, 0]]);
  expect(await statusOf(client, 'qemu:allocation-depth')).toEqual([
    [0, 64, 2],
    [64, 4032, 0],
  ]);
  await client.write(1024 * KIB, Buffer.alloc(64 * KIB, 1));
  await client.write(3072 * KIB + 5, Buffer.from('a little'));
  const dirty = [
    [0, 1024, 0],
    [1024, 64, 1],
    [1088, 1984, 0],
    [3072, 64, 1],
    [3136, 960, 0],
  ];
  expect(await statusOf(client, 'qemu:dirty-bitmap:monday')).toEqual(dirty);
  expect(await statusOf(client, 'qemu:dirty-bitmap:tuesday')).toEqual(dirty);
  expect((await statusOf(client, 'qemu:allocation-depth')).slice(0, 3)).toEqual([
    [0, 64, 2],
    [64, 960, 0],
    [1024, 64, 1],
  ]);
  const extents = [];
  for await (const { flags, length } of client.extents({ context: 'qemu:dirty-bitmap:monday' }))
    if (flags === 1) extents.push(Number(length) / KIB);
  expect(extents).toEqual([64, 64]);
});

test('dirty bitmaps: a bitmap context survives a restart of the server of the image', async () => {
  const path = imageWithBitmaps();
  const first = await connect(qemuNbd(path));
  await first.write(0, Buffer.alloc(512, 1));
  await first.close();
  const context = 'qemu:dirty-bitmap:monday';
  const second = await NbdClient.connect(qemuNbd(path), { metaContexts: [context] });
  onTestFinished(() => second.close());
  expect((await statusOf(second, context))[0]).toEqual([0, 64, 1]);
});
