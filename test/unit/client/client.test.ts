import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { listExports } from '../../../src/index.js';
import { scratchFolder } from '../../support/cleanup.js';
import { createQcow2 } from '../../support/run/images.js';
import { connect, nbdkit, shell } from './support.js';

describe('NbdClient properties', () => {
  test('have the results of the handshake', async () => {
    const client = await connect(nbdkit('memory', '10M'));
    expect(client).toMatchObject({
      size: 10_485_760n,
      exportName: '',
      readOnly: false,
      canFlush: true,
      canFua: true,
      canTrim: true,
      canZero: true,
      canFastZero: true,
      canCache: true,
      canDf: true,
      canMultiConn: true,
      isRotational: false,
      canBlockStatus: true,
      metaContexts: ['base:allocation'],
      connections: 1,
    });
  });

  test('keep a size of 2^63-1 exact', async () => {
    const client = await connect(nbdkit('null', '9223372036854775807'));
    expect(client.size).toBe(2n ** 63n - 1n);
    expect(await client.read(2n ** 63n - 9n, 8)).toEqual(Buffer.alloc(8));
  });

  test('keep an export name of 3,000 bytes intact', async () => {
    const name = 'ü'.repeat(1500);
    const address = shell(`case $1 in
      open) printf %s "$3" ;; get_size) printf %s "$2" | wc -c ;; pread) printf %s "$2" | dd bs=1 skip=$4 count=$3 2>/dev/null ;;
      *) exit 2 ;; esac`);
    const client = await connect(address, { exportName: name });
    expect(client.size).toBe(3000n);
    expect((await client.read(0, 3000)).toString()).toBe(name);
  });

  test('listExports returns several exports', async () => {
    const address = shell(`case $1 in
      list_exports) printf 'INTERLEAVED\\none\\nthe first\\ntwo\\nthe second\\n' ;;
      get_size) echo 512 ;; pread) head -c $3 /dev/zero ;; *) exit 2 ;; esac`);
    const listed = await listExports(address, { onStderr: () => undefined });
    expect(listed.map(({ name, description, info }) => [name, description, info?.size])).toEqual([
      ['one', 'the first', 512n],
      ['two', 'the second', 512n],
    ]);
  });
});

describe('NbdClient read and write', () => {
  test('transfer bytes at any offset and of any length', async () => {
    const client = await connect(nbdkit('memory', '1M'));
    await client.write(1000, Buffer.from('hello'));
    await client.write(511, Buffer.alloc(600, 'x'));
    const bytes = await client.read(510, 1000);
    expect(bytes.toString('latin1')).toBe(`\0${'x'.repeat(600)}${'\0'.repeat(399)}`);
  });

  test('return the known contents of a server', async () => {
    const client = await connect(nbdkit('pattern', '1G'));
    for (const offset of [0n, 8n, 123_456n, 2n ** 30n - 16n]) {
      const bytes = await client.read(offset, 16);
      // nbdkit-pattern-plugin(1): each 8 bytes are their own offset, big-endian.
      expect(bytes.readBigUInt64BE(0)).toBe(offset);
      expect(bytes.readBigUInt64BE(8)).toBe(offset + 8n);
    }
  });

  test('fill memory of the caller', async () => {
    const client = await connect(nbdkit('pattern', '1M'));
    const into = Buffer.alloc(24, 0xff);
    await client.readInto(into.subarray(8, 16), 4096);
    expect(into.toString('hex')).toBe('ffffffffffffffff0000000000001000ffffffffffffffff');
  });

  test('split requests that exceed the maximum block size', async () => {
    const client = await connect(
      nbdkit(
        '--filter=blocksize-policy',
        'memory',
        '4M',
        'blocksize-maximum=64K',
        'blocksize-error-policy=error',
      ),
    );
    expect(client.blockSizes.maximum).toBe(65_536);
    const bytes = Buffer.alloc(3_000_000, 'some bytes ');
    await client.write(512, bytes);
    expect((await client.read(512, bytes.length)).equals(bytes)).toBe(true);
  });

  test.each([512, 4096, 65_536])('keep to a minimum block size of %i', async (minimum) => {
    const client = await connect(
      nbdkit(
        ...['--filter=blocksize-policy', 'memory', '1M', `blocksize-minimum=${minimum}`],
        ...['blocksize-preferred=65536', 'blocksize-maximum=1M', 'blocksize-error-policy=error'],
      ),
    );
    const model = Buffer.alloc(1_048_576);
    const change = async (offset: number, length: number, byte: number) => {
      model.fill(byte, offset, offset + length);
      await client.write(offset, Buffer.alloc(length, byte));
    };
    await change(0, 1, 1);
    await change(minimum - 1, 2, 2);
    await change(5, 3 * minimum, 3);
    await change(1_048_575, 1, 4);
    // Changes of neighbouring bytes of one block, all at once.
    await Promise.all(Array.from({ length: 20 }, (_, i) => change(1000 + i, 1, 10 + i)));
    model.fill(0, 7, 7 + 2 * minimum);
    await client.zero(7, 2 * minimum);
    await client.trim(3, 10);
    await client.cache(3, 10);
    expect((await client.read(0, 1_048_576)).equals(model)).toBe(true);
    expect((await client.read(6, minimum)).equals(model.subarray(6, 6 + minimum))).toBe(true);
  });

  test('run many requests at once', async () => {
    const client = await connect(nbdkit('memory', '4M'));
    await Promise.all(Array.from({ length: 256 }, (_, i) => client.write(i * 8192, Buffer.alloc(8192, i))));
    const parts = await Promise.all(Array.from({ length: 256 }, (_, i) => client.read(i * 8192, 8192)));
    expect(parts.every((part, i) => part.equals(Buffer.alloc(8192, i)))).toBe(true);
  });

  test.each([{ structuredReplies: false }, { structuredReplies: true }])('work with %j', async (options) => {
    const client = await connect(nbdkit('memory', '1M'), options);
    expect(client.info.structuredReplies).toBe(options.structuredReplies);
    await client.write(4096, Buffer.alloc(4096, 7));
    const bytes = await client.read(0, 12_288);
    expect([bytes[4095], bytes[4096], bytes[8191], bytes[8192]]).toEqual([0, 7, 7, 0]);
  });

  test('fill holes of a structured reply with zeroes', async () => {
    const path = createQcow2(join(scratchFolder(), 'disk.qcow2'), '4M');
    const client = await connect({ socketActivation: ['qemu-nbd', '-f', 'qcow2', path] });
    await client.write(1_048_576, Buffer.alloc(65_536, 9));
    const into = Buffer.alloc(4_194_304, 0xff);
    await client.readInto(into, 0);
    const expected = Buffer.alloc(4_194_304);
    expected.fill(9, 1_048_576, 1_048_576 + 65_536);
    expect(into.equals(expected)).toBe(true);
  });
});
