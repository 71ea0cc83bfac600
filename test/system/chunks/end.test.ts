// The end of a chunk server that is in use.

import { resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { NbdClient, NbdServerError, openServer } from '../../../src/index.js';
import { createScope } from '../../support/cleanup.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';

requirePrograms('nbdkit');

const MIB = 1024 * 1024;
const UNIT = MIB / 4;
/** Bytes of a region of a cache file. */
const REGION = 64 * MIB;
const SIZE = 1024 * MIB;
/** Bytes of a read. */
const PART = 32 * MIB;
/** Writes in progress. */
const WRITERS = 64;

test('chunk server: SIGTERM during writes ends the connection, and is no error of a write', async () => {
  const scope = createScope();
  // So slow that there are kept units until the end.
  const below = await startNbdkit(scope, '--filter=delay', 'memory', String(SIZE), 'wdelay=3ms');
  const words = ['--coding=plain', '--source=a', '--writable', `--cache-file=${scope.path('cache')}`];
  const argv = [process.execPath, resolve('bin/nbdfuse-chunks'), ...words, `--nbd=${below.uri()}`];
  const server = await openServer({ target: { kind: 'socket-activation', argv }, exportName: '' }, {});
  scope.add(() => server.close());
  const client = await NbdClient.over(server);
  scope.add(() => client.close());
  for (let at = 0; at < SIZE; at += PART) await client.read(at, PART);
  // Until the cache file has a record of each unit, which a write must remove.
  await pause(2000);
  const bytes = Buffer.alloc(512, 1);
  // The first write to each region of the cache file waits for its disk.
  for (let at = 0; at < SIZE; at += REGION) await client.write(at, bytes);
  const write = async (first: number): Promise<unknown> => {
    for (let at = (first + 1) * UNIT; at < SIZE; at += WRITERS * UNIT) {
      try {
        await client.write(at, bytes);
      } catch (error) {
        return error;
      }
    }
    return undefined;
  };
  const writing = Promise.all(Array.from({ length: WRITERS }, (_, first) => write(first)));
  await pause(100);
  const closing = server.close();
  const errors = await writing;
  await closing;
  expect(errors.filter((error) => error instanceof NbdServerError)).toEqual([]);
  expect(errors.filter((error) => error !== undefined)).toHaveLength(WRITERS);
});
