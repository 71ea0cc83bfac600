// The transmission phase of the server, byte by byte, and with random bytes.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { DiskProperties } from '../../../../src/chunks/contract/disk.js';
import { RequestReceiver } from '../../../../src/chunks/serve/request-receiver.js';
import { Transmission } from '../../../../src/chunks/serve/transmission.js';
import { NbdProtocolError } from '../../../../src/nbd/errors.js';
import { toHex } from '../../../support/hex.js';
import { diskError, MemoryDisk } from '../../../support/memory-disk.js';
import { type RequestBytes, requestBytes } from '../../../support/option-bytes.js';
import { shortText, simpleReply, structuredChunk, u32, u64 } from '../../../support/scripted-wire.js';

const [READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS] = [0, 1, 2, 3, 4, 5, 6, 7];
const [FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO] = [1, 2, 4, 8, 16];
const [EPERM, EIO, EINVAL, ENOSPC, ENOTSUP] = [1, 5, 22, 28, 95];
const DONE = 1;
const [NONE, OFFSET_DATA, STATUS, ERROR] = [0, 1, 5, 0x8001];

/** Lets all promises settle that wait for nothing outside. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const SIMPLE = { structured: false, allocation: undefined };
const STRUCTURED = { structured: true, allocation: 1 };

/** One client whose bytes the test sends. */
class Client {
  readonly disk: MemoryDisk;
  readonly receiver: RequestReceiver;
  readonly transmission: Transmission;
  /** Replies as hexadecimal digits. */
  readonly replies: string[] = [];
  isLost = false;
  /** Whether replies leave at once. */
  sends = true;
  readonly #unsent: (() => void)[] = [];

  private constructor(disk: MemoryDisk, transmission: (client: Client) => Transmission) {
    this.disk = disk;
    this.transmission = transmission(this);
    this.receiver = new RequestReceiver(this.transmission, disk.properties.blockSizes.maximum);
  }

  static async open(
    disk: MemoryDisk,
    terms: typeof SIMPLE | typeof STRUCTURED = STRUCTURED,
  ): Promise<Client> {
    const connection = await disk.connect();
    return new Client(
      disk,
      (client) =>
        new Transmission(connection, terms, {
          send: (parts, onSent) => {
            client.replies.push(toHex(Buffer.concat(parts)));
            client.#unsent.push(onSent);
            if (client.sends) setImmediate(() => client.flushReplies());
          },
          onProgress: () => {
            if (client.receiver.isDeclined) client.receiver.resume();
          },
          onLost: () => {
            client.isLost = true;
          },
        }),
    );
  }

  flushReplies(): void {
    for (const onSent of this.#unsent.splice(0)) onSent();
  }

  /** Sends requests, and waits for the replies. */
  async send(...requests: readonly RequestBytes[]): Promise<readonly string[]> {
    for (const request of requests) this.receiver.receive(requestBytes(request));
    await settle();
    return this.replies.splice(0);
  }
}

const openWith = (properties: Partial<DiskProperties>): Promise<Client> =>
  Client.open(new MemoryDisk(properties));

const chunk = (type: number, ...fields: readonly Uint8Array[]): string =>
  toHex(structuredChunk(DONE, type, 1n, Buffer.concat(fields)));
const failure = (error: number, text = ''): string => chunk(ERROR, u32(error), shortText(text));

describe('transmission of the server', () => {
  test('answers a READ with a simple reply', async () => {
    const client = await Client.open(new MemoryDisk(), SIMPLE);
    client.disk.bytes.write('hello', 5000);
    expect(await client.send({ type: READ, offset: 5000, length: 5 })).toEqual([
      toHex(simpleReply(1n, 0, Buffer.from('hello'))),
    ]);
    expect(await client.send({ type: FLUSH }, { type: READ, offset: 2 ** 40, length: 1 })).toEqual(
      expect.arrayContaining([toHex(simpleReply(1n, 0)), toHex(simpleReply(1n, EINVAL))]),
    );
  });

  test.each([0, DF])('answers a READ with one chunk, flags %i', async (flags) => {
    const client = await openWith({ size: 2 ** 20 });
    client.disk.fill();
    const found = await client.send({ type: READ, flags, offset: 262_000, length: 300_000 });
    expect(found).toEqual([chunk(OFFSET_DATA, u64(262_000), client.disk.bytes.subarray(262_000, 562_000))]);
  });

  test('answers a READ in its own turn if the disk has the bytes', async () => {
    const client = await openWith({ size: 2 ** 20 });
    client.disk.fill();
    client.disk.readNow = (offset, length) => [client.disk.bytes.subarray(offset, offset + length)];
    client.receiver.receive(requestBytes({ type: READ, offset: 7000, length: 4096 }));
    expect(client.replies).toEqual([chunk(OFFSET_DATA, u64(7000), client.disk.bytes.subarray(7000, 11_096))]);
    expect(client.disk.operations).toEqual([]);
  });

  test.each([
    ['another number of bytes', () => [Buffer.alloc(9)], 'the disk gave 9 of 10 bytes'],
    ['no bytes', () => [], 'the disk gave 0 of 10 bytes'],
    [
      'an exception',
      () => {
        throw new Error('no thread');
      },
      'no thread',
    ],
  ])('answers a READ with an error for %s of the disk at once', async (_, readNow, text) => {
    const client = await Client.open(new MemoryDisk());
    client.disk.readNow = readNow;
    expect(await client.send({ type: READ, length: 10 })).toEqual([failure(EIO, text)]);
    client.disk.readNow = () => undefined;
    expect(await client.send({ type: READ, length: 1 })).toEqual([
      chunk(OFFSET_DATA, u64(0), Buffer.alloc(1)),
    ]);
  });

  test('passes a WRITE on with its flags', async () => {
    const disk = new MemoryDisk();
    const client = await Client.open(disk);
    expect(await client.send({ type: WRITE, flags: FUA, offset: 7, payload: Buffer.from('abc') })).toEqual([
      chunk(NONE),
    ]);
    expect(disk.operations).toEqual(['write 7+3 fua']);
    expect(disk.bytes.toString('latin1', 6, 11)).toBe('\0abc\0');
  });

  test('passes the flags of WRITE_ZEROES and TRIM on', async () => {
    const client = await Client.open(new MemoryDisk());
    const replies = await client.send(
      { type: WRITE_ZEROES, flags: FUA | NO_HOLE | FAST_ZERO, offset: 4096, length: 8192 },
      { type: TRIM, length: 4096 },
      { type: FLUSH },
    );
    expect(replies).toEqual([chunk(NONE), chunk(NONE), chunk(NONE)]);
    expect(client.disk.operations).toEqual([
      'zero 4096+8192 fua noHole fastZero',
      'trim 0+4096',
      'flush 0+0',
    ]);
  });

  test('answers BLOCK_STATUS with extents, with one for REQ_ONE, and with data where none are known', async () => {
    const client = await Client.open(new MemoryDisk({ size: 65_536 }));
    await client.send({ type: WRITE, offset: 8192, payload: Buffer.alloc(4096, 1) });
    const extents = [8192, 3, 4096, 0, 53_248, 3].map((number) => u32(number));
    expect(await client.send({ type: BLOCK_STATUS, length: 65_536 })).toEqual([
      chunk(STATUS, u32(1), ...extents),
    ]);
    expect(await client.send({ type: BLOCK_STATUS, flags: REQ_ONE, length: 65_536 })).toEqual([
      chunk(STATUS, u32(1), ...extents.slice(0, 2)),
    ]);
    client.disk.knowsExtents = false;
    expect(await client.send({ type: BLOCK_STATUS, length: 65_536 })).toEqual([
      chunk(STATUS, u32(1), u32(65_536), u32(0)),
    ]);
  });

  test('answers a CACHE of any length when the disk has it', async () => {
    const client = await openWith({ readOnly: true, blockSizes: short.blockSizes });
    expect(await client.send({ type: CACHE, offset: 512, length: 65_536 })).toEqual([chunk(NONE)]);
    expect(client.disk.operations).toEqual(['cache 512+65536']);
  });

  const end = 1024 * 1024;
  const short: Partial<DiskProperties> = { blockSizes: { minimum: 512, preferred: 4096, maximum: 8192 } };
  test.each<[string, RequestBytes, number, Partial<DiskProperties>]>([
    ['a READ beyond the end', { type: READ, offset: end - 1, length: 2 }, EINVAL, {}],
    ['a READ at an offset of 64 bits', { type: READ, offset: 2n ** 64n - 1n, length: 2 }, EINVAL, {}],
    ['a WRITE beyond the end', { type: WRITE, offset: end, payload: Buffer.alloc(1) }, ENOSPC, {}],
    ['WRITE_ZEROES beyond the end', { type: WRITE_ZEROES, offset: 1, length: end }, ENOSPC, {}],
    ['a TRIM beyond the end', { type: TRIM, offset: end, length: 1 }, EINVAL, {}],
    ['BLOCK_STATUS of nothing', { type: BLOCK_STATUS, length: 0 }, EINVAL, {}],
    ['a READ of more than the maximum', { type: READ, length: 8704 }, EINVAL, short],
    ['a WRITE of more than the maximum', { type: WRITE, payload: Buffer.alloc(8704) }, EINVAL, short],
    ['an offset within a block', { type: READ, offset: 1, length: 512 }, EINVAL, short],
    ['a length within a block', { type: READ, length: 100 }, EINVAL, short],
    ['a WRITE of a read-only disk', { type: WRITE, payload: Buffer.alloc(9) }, EPERM, { readOnly: true }],
    ['WRITE_ZEROES of a read-only disk', { type: WRITE_ZEROES, length: 9 }, EPERM, { readOnly: true }],
    ['a TRIM of a read-only disk', { type: TRIM, length: 9 }, EPERM, { readOnly: true }],
    ['a TRIM that is not offered', { type: TRIM, length: 9 }, EINVAL, { canTrim: false }],
    ['WRITE_ZEROES that are not offered', { type: WRITE_ZEROES, length: 9 }, EINVAL, { canZero: false }],
    ['a FLUSH that is not offered', { type: FLUSH }, EINVAL, { canFlush: false }],
    ['a FLUSH with a length', { type: FLUSH, length: 1 }, EINVAL, {}],
    ['FUA that is not offered', { type: WRITE, flags: FUA, payload: u32(1) }, EINVAL, { canFua: false }],
    ['NO_HOLE of a TRIM', { type: TRIM, flags: NO_HOLE, length: 9 }, EINVAL, {}],
    ['an unknown flag', { type: READ, flags: 1 << 14, length: 9 }, EINVAL, {}],
    ['a CACHE beyond the end', { type: CACHE, offset: end, length: 1 }, EINVAL, {}],
    ['a CACHE with DF', { type: CACHE, flags: DF, length: 9 }, EINVAL, {}],
    ['an unknown command', { type: 1000, length: 9 }, EINVAL, {}],
  ])('refuses %s', async (_, request, error, properties) => {
    const client = await openWith(properties);
    expect(await client.send(request)).toEqual([failure(error)]);
    expect(client.disk.operations).toEqual([]);
    // The framing is intact.
    expect(await client.send({ type: READ, length: 512 })).toHaveLength(1);
  });

  test('gives the last block of a disk that has no whole number of them', async () => {
    const client = await openWith({ ...short, size: 1000 });
    expect(await client.send({ type: READ, offset: 512, length: 488 })).toEqual([
      chunk(OFFSET_DATA, u64(512), Buffer.alloc(488)),
    ]);
  });

  test('a request of no bytes succeeds without the disk', async () => {
    const client = await Client.open(new MemoryDisk());
    expect(await client.send({ type: READ }, { type: WRITE }, { type: TRIM })).toEqual([
      chunk(NONE),
      chunk(NONE),
      chunk(NONE),
    ]);
    expect(client.disk.operations).toEqual([]);
  });

  test.each([
    [1, EPERM],
    [13, EPERM],
    [28, ENOSPC],
    [95, ENOTSUP],
    [110, EIO],
  ])('turns errno %i into the NBD error %i', async (errno, error) => {
    const client = await Client.open(new MemoryDisk());
    client.disk.before = () => Promise.reject(diskError(errno, 'why'));
    expect(await client.send({ type: READ, length: 1 })).toEqual([failure(error, 'why')]);
  });

  test('gives no reply when the server below is lost', async () => {
    const client = await Client.open(new MemoryDisk());
    client.disk.before = () => Promise.reject(Object.assign(new Error('gone'), { isLost: true }));
    expect(await client.send({ type: READ, length: 1 })).toEqual([]);
    expect(client.isLost).toBe(true);
  });

  test('takes nothing after NBD_CMD_DISC', async () => {
    const client = await Client.open(new MemoryDisk());
    expect(await client.send({ type: DISC }, { type: READ, length: 1 })).toEqual([]);
    expect(client.transmission.isLeaving).toBe(true);
    expect(client.transmission.isIdle).toBe(true);
  });

  test('ends at a request without its magic', async () => {
    const client = await Client.open(new MemoryDisk());
    expect(() => client.receiver.receive(Buffer.alloc(28))).toThrow(NbdProtocolError);
  });

  test('declines requests while too many wait, or while replies do not leave', async () => {
    const client = await openWith({ size: 64 * 1024 * 1024 });
    client.sends = false;
    const read: RequestBytes = { type: READ, length: 32 * 1024 * 1024 };
    const small: RequestBytes = { type: READ, length: 1 };
    expect(await client.send(read, read, small)).toHaveLength(2);
    expect(client.receiver.isDeclined).toBe(true);
    client.flushReplies();
    await settle();
    expect(client.replies.splice(0)).toHaveLength(1);
    client.flushReplies();
    expect(await client.send(...Array.from({ length: 300 }, () => small))).toHaveLength(256);
    client.flushReplies();
    await settle();
    expect(client.replies).toHaveLength(44);
  });
});

test('transmission of the server: a stream gives the same replies for any cuts', async () => {
  const command = fc.record({
    type: fc.constantFrom(READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS),
    flags: fc.integer({ min: 0, max: 31 }),
    offset: fc.constantFrom(0, 512, 4096, 8191, 2 ** 50),
    size: fc.integer({ min: 0, max: 9000 }),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(command, { maxLength: 8 }),
      fc.infiniteStream(fc.nat(6000)),
      async (list, cuts) => {
        const requests = list.map(({ type, flags, offset, size }) => {
          const payload = type === WRITE ? Buffer.alloc(size, 7) : undefined;
          return { type, flags, offset, length: size, payload };
        });
        const properties = { size: 16_384, blockSizes: { minimum: 1, preferred: 4096, maximum: 8192 } };
        const [whole, parts] = [await openWith(properties), await openWith(properties)];
        const expected = await whole.send(...requests);
        const bytes = Buffer.concat(requests.map(requestBytes));
        for (let at = 0; at < bytes.length; ) {
          const length = cuts.next().value + 1;
          parts.receiver.receive(bytes.subarray(at, at + length));
          at += length;
        }
        await settle();
        expect([...parts.replies].sort()).toEqual([...expected].sort());
        expect(expected).toHaveLength(requests.length);
        expect(parts.disk.bytes.equals(whole.disk.bytes)).toBe(true);
      },
    ),
    { numRuns: 300 },
  );
});

test('transmission of the server: random bytes end the connection at most', async () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 60 }),
    fc
      .record({
        type: fc.nat(9),
        flags: fc.nat(40),
        offset: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
        length: fc.oneof(fc.nat(100), fc.integer({ min: 0, max: 2 ** 32 - 1 })),
      })
      .map(requestBytes),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(bytes, { maxLength: 12 }), async (messages) => {
      const client = await Client.open(new MemoryDisk({ size: 65_536 }));
      try {
        for (const message of messages) client.receiver.receive(message);
      } catch (error) {
        expect(error).toBeInstanceOf(NbdProtocolError);
      }
      await settle();
      for (const reply of client.replies) expect(reply.length).toBeLessThan(2 * 65_600);
    }),
    { numRuns: 2000 },
  );
});
