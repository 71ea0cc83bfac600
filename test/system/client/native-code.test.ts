import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { freePort } from '../../support/run/ports.js';
import { startNbdkit, startTcpNbdkit } from '../../support/run/servers.js';

const INDEX = join(import.meta.dirname, '../../../dist/index.js');

/** Reads through the built library, and tells whether the process has loaded koffi's native code. */
const PROGRAM = `
import { readFileSync } from 'node:fs';
const { NbdClient } = await import(process.argv[1]);
const client = await NbdClient.connect(process.argv[2]);
const bytes = await client.read(0, 512);
await client.close();
console.log(bytes.length, readFileSync('/proc/self/maps', 'utf8').includes('koffi'));
`;

const read = (uri: string): string =>
  execFileSync(process.execPath, ['--input-type=module', '-e', PROGRAM, INDEX, uri], { encoding: 'utf8' });

test('library: loads no native code for a server over TCP, and does for a Unix socket', async () => {
  const scope = createScope();
  const tcp = await startTcpNbdkit(scope, await freePort(), 'memory', '1M');
  expect(read(tcp.uri())).toBe('512 false\n');
  const unix = await startNbdkit(scope, 'memory', '1M');
  expect(read(unix.uri())).toBe('512 true\n');
}, 60_000);
