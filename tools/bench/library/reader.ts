// One side of the library's cases: a program that reads at random places through a build of the library.
//
// Arguments: the build's index.js, URI, connections, bytes of a read, depth. Each line of its input is a number of
// seconds to read for; it answers with bytes per second.

import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import type { NbdClient } from '../../../src/index.js';

const [index, uri, ...numbers] = process.argv.slice(2);
const [connections, length, depth] = numbers.map(Number);
const library: { NbdClient: typeof NbdClient } = await import(pathToFileURL(index).href);
const client = await library.NbdClient.connect(uri, { connections });
const blocks = Math.floor(Number(client.size) / length);

const buffers = Array.from({ length: depth }, () => Buffer.alloc(length, 1));
let end = 0;
let bytes = 0;

async function readOn(into: Buffer): Promise<void> {
  while (performance.now() < end) {
    await client.readInto(into, Math.floor(Math.random() * blocks) * length);
    bytes += length;
  }
}

async function run(time: number): Promise<number> {
  const begin = performance.now();
  end = begin + time * 1000;
  bytes = 0;
  await Promise.all(buffers.map(readOn));
  return bytes / ((performance.now() - begin) / 1000);
}

for await (const seconds of createInterface(process.stdin)) console.log(await run(Number(seconds)));
await client.close();
