import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { expect, it } from 'vitest';
import { BACKENDS } from '../../support/backends.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { startHttpRangeServer } from '../../support/http-range-server.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'xz');

const MIB = 1024 * 1024;
const SIZE = 24 * MIB;

async function hashOf(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  return hash.digest('hex');
}

/** A raw image whose blocks contain their place, and its .xz of six blocks. */
async function createImages(scope: Scope): Promise<{ raw: string; xz: string }> {
  const raw = scope.path('image');
  const handle = await open(raw, 'w');
  const block = Buffer.alloc(64 * 1024);
  for (let offset = 0; offset < SIZE; offset += block.length) {
    block.fill(`this is the block at ${offset}; `);
    await handle.write(block, 0, block.length, offset);
  }
  await handle.close();
  await runProgram('xz', '-k', '-1', '--block-size=4MiB', raw);
  return { raw, xz: `${raw}.xz` };
}

it.each(BACKENDS)(
  'xz over HTTP: mounts an image on a web server, and fetches only needed ranges, by %s',
  async (_, options) => {
    const scope = createScope();
    const { raw, xz } = await createImages(scope);
    const web = await startHttpRangeServer(scope, xz);
    const server = ['--command', 'nbdkit', '-s', 'curl', '--filter=xz', `url=${web.url}`];
    const disk = await mountDisk(scope, { server, options });
    expect((await stat(disk.file)).size).toBe(SIZE);

    const handle = await open(disk.file, 'r');
    const { buffer } = await handle.read(Buffer.alloc(1000), 0, 1000, 17 * MIB);
    await handle.close();
    expect(buffer.toString()).toMatch(new RegExp(`^this is the block at ${17 * MIB}; `));
    expect(web.sent).toBeLessThan((await stat(xz)).size);

    expect(await hashOf(disk.file)).toBe(await hashOf(raw));
    expect(disk.stderr).toBe('');
  },
);
