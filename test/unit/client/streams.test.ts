import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { describe, expect, test } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { startNbdkit } from '../../support/run/servers.js';
import { connect } from './support.js';

const nbdkit = (...args: string[]) => ({ command: ['nbdkit', '-s', ...args] });

describe('NbdClient streams', () => {
  test('copy an export into another', async () => {
    const source = await connect(nbdkit('pattern', '10000001'));
    const target = await connect(nbdkit('memory', '10000001'));
    await pipeline(source.createReadStream(), target.createWriteStream());
    const [expected, copy] = await Promise.all([source.read(0, 10_000_001), target.read(0, 10_000_001)]);
    expect(copy.equals(expected)).toBe(true);
  });

  test('read a part', async () => {
    const client = await connect(nbdkit('pattern', '1M'));
    const chunks: Buffer[] = [];
    for await (const chunk of client.createReadStream({ offset: 4, length: 8 })) chunks.push(chunk);
    expect(Buffer.concat(chunks).toString('hex')).toBe('0000000000000000');
  });

  test('write chunks of any size one after the other', async () => {
    const client = await connect(nbdkit('memory', '1M'));
    const words = ['one ', 'two ', 'three ', 'four ', 'five ', 'six '];
    await pipeline(Readable.from(words, { objectMode: false }), client.createWriteStream({ offset: 100 }));
    expect((await client.read(100, words.join('').length)).toString()).toBe(words.join(''));
  });

  test('fail with the error of the server', async () => {
    const args = ['--filter=error', 'memory', '8M', 'error-pread=EIO', 'error-pread-rate=100%'];
    const { socket: unix } = await startNbdkit(createScope(), ...args);
    const client = await connect({ unix });
    await expect(
      pipeline(client.createReadStream(), async (source) => {
        for await (const chunk of source) expect(chunk).toBeDefined();
      }),
    ).rejects.toMatchObject({ errno: 5 });
  });

  test('fail when a write would exceed the end', async () => {
    const client = await connect(nbdkit('memory', '1024'));
    const writing = pipeline(Readable.from([Buffer.alloc(2000)]), client.createWriteStream());
    await expect(writing).rejects.toThrow('are outside the export');
  });

  test('stop when their signal aborts', async () => {
    const client = await connect(nbdkit('null', '1T'));
    const stop = new AbortController();
    const reading = pipeline(client.createReadStream({ signal: stop.signal }), async (source) => {
      for await (const chunk of source) {
        expect(chunk.length).toBeGreaterThan(0);
        stop.abort(new Error('enough'));
      }
    });
    await expect(reading).rejects.toThrow('enough');
  });
});
