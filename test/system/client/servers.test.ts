import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { connectMany } from '../../../src/index.js';
import { createScope } from '../../support/cleanup.js';
import { freePort, untilListening } from '../../support/run/ports.js';
import { configureNbdServer, startNbdkit } from '../../support/run/servers.js';
import { connect, nbdkit } from '../../unit/client/support.js';

describe('several connections', () => {
  test('are all used, and FLUSH waits for the writes that it covers', async () => {
    const scope = createScope();
    const log = scope.path('log');
    const args = ['--filter=log', '--filter=delay', 'memory', '16M', `logfile=${log}`, 'delay-write=20ms'];
    const { socket: unix } = await startNbdkit(scope, ...args);
    const client = await connectMany({ unix }, 4);
    expect(client.connections).toBe(4);
    const writes = Array.from({ length: 16 }, (_, i) => client.write(i * 65_536, Buffer.alloc(65_536, i)));
    await client.flush();
    const lines = readFileSync(log, 'utf8').split('\n');
    await Promise.all(writes);
    await client.close();
    const flush = lines.findIndex((line) => line.includes(' Flush '));
    const replies = lines.filter((line) => line.includes(' ...Write '));
    expect(lines.slice(flush).filter((line) => line.includes(' ...Write '))).toEqual([]);
    expect(replies).toHaveLength(16);
    const used = new Set(
      lines.filter((line) => / Write /.test(line)).map((line) => / connection=(\d+) /.exec(line)?.[1]),
    );
    expect(used.size).toBe(4);
  });

  test('are limited to one where the server does not promise that several are consistent', async () => {
    const args = ['--filter=multi-conn', 'memory', '1M', 'multi-conn-mode=disable'];
    const { socket: unix } = await startNbdkit(createScope(), ...args);
    const client = await connect({ unix }, { connections: 4 });
    expect(client.canMultiConn).toBe(false);
    expect(client.connections).toBe(1);
  });

  test.each([0, -1, 1.5, 1025])('cannot be %d', async (connections) => {
    await expect(connect(nbdkit('memory', '1M'), { connections })).rejects.toThrow(
      'bad number of connections',
    );
  });
});

describe('NbdClient with nbd-server', () => {
  test('reads, writes, flushes and trims', async () => {
    const scope = createScope();
    const port = await freePort();
    const disk = scope.path('disk');
    writeFileSync(disk, Buffer.alloc(1_048_576));
    const generic = ['listenaddr = 127.0.0.1', `port = ${port}`];
    await configureNbdServer(scope, disk, generic, ['flush = true', 'trim = true']);
    await untilListening({ host: '127.0.0.1', port });
    const client = await connect(`nbd://127.0.0.1:${port}/disk`);
    await client.write(12_345, Buffer.from('written'));
    await client.flush();
    await client.trim(65_536, 65_536);
    expect((await client.read(12_344, 9)).toString('latin1')).toBe('\0written\0');
    await client.close();
    expect(readFileSync(disk).subarray(12_345, 12_352).toString()).toBe('written');
    await expect(connect(`nbd://127.0.0.1:${port}/other`)).rejects.toThrow(/"other".*the server has "disk"/);
  });
});
