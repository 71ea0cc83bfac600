// The files that nbdfuse makes for an image: a refused image leaves none, nor does a mount that fails.

import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { startFaultyWebServer } from '../../support/faulty-web-server.js';
import { createRaw } from '../../support/images.js';
import { runProgram } from '../../support/run/command.js';
import { createQcow2 } from '../../support/run/images.js';
import { mountDisk, NBDFUSE, startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('qemu-nbd', 'qemu-img', 'nbdkit');

/** Starts nbdfuse, which must refuse; returns its last line. */
async function refusal(scope: Scope, ...words: readonly string[]): Promise<string> {
  const program = startNbdfuse(scope, [...words.slice(0, -1), scope.path('mnt'), ...words.slice(-1)]);
  expect(await program.ended, program.stderr).toBe(1);
  return program.stderr.trimEnd().split('\n').at(-1) ?? '';
}

/** The URL of a file that is not there. */
async function missingUrl(scope: Scope): Promise<string> {
  const web = await startFaultyWebServer(scope, Buffer.alloc(4096), (answer) => {
    answer.status = 404;
    answer.body = Buffer.alloc(0);
  });
  return web.url;
}

/** An image whose name and bytes disagree. */
function wrongImage(scope: Scope): string {
  const path = scope.path('disk.qcow2');
  writeFileSync(path, Buffer.alloc(1024 * 1024, 'no qcow2'));
  return path;
}

const names = (scope: Scope): string[] =>
  ['cache', 'cache.index', 'trace', 'o.qcow2'].filter((name) => existsSync(scope.path(name)));

describe('refused image', () => {
  it.each([
    ['a file that a web server does not have', missingUrl],
    ['a local image of another format', async (scope: Scope) => wrongImage(scope)],
    ['a file that is not there', async (scope: Scope) => scope.path('none')],
    ['a server that does not listen', async () => 'nbd://127.0.0.1:1'],
  ])('%s leaves no cache file and no trace', async (_, make) => {
    const scope = createScope();
    const image = await make(scope);
    const files = ['--cache-file', scope.path('cache'), '--trace', scope.path('trace')];
    await refusal(scope, ...files, image);
    expect(names(scope)).toEqual([]);
    await refusal(scope, '--cache-dir', scope.path('cache'), '--trace', scope.path('trace'), image);
    expect(names(scope)).toEqual([]);
    mkdirSync(scope.path('cache'));
    await refusal(scope, '--cache-dir', scope.path('cache'), image);
    expect(await runProgram('ls', scope.path('cache'))).toBe('');
  });

  it('leaves the files that were there, and a cache that has bytes', async () => {
    const scope = createScope();
    writeFileSync(scope.path('trace'), '');
    writeFileSync(scope.path('cache'), '');
    const files = ['--cache-file', scope.path('cache'), '--trace', scope.path('trace')];
    await refusal(scope, ...files, await missingUrl(scope));
    expect(names(scope)).toEqual(['cache', 'trace']);
    const bytes = await readFile(createQcow2(scope.path('image.qcow2'), '1M'));
    const web = await startFaultyWebServer(scope, bytes);
    expect(await refusal(scope, '--cache-file', scope.path('cache'), web.url)).toContain(
      'looks like a qcow2',
    );
    expect(await runProgram('node', NBDFUSE, 'cache', 'list', scope.path('cache'))).toContain(web.url);
  });

  it.each([
    ['a partition that there is none of', ['--partition', '9'], 'no partition'],
    ['an image that another mount writes to', [], 'is in use by another nbdfuse'],
  ])('%s leaves no overlay', async (_, options, why) => {
    const scope = createScope();
    const raw = await createRaw(scope, 4);
    if (options.length === 0) await mountDisk(scope, { server: [raw], name: 'other' });
    const overlay = `--overlay=${scope.path('o.qcow2')}`;
    expect(await refusal(scope, overlay, ...options, raw)).toContain(why);
    expect(names(scope)).toEqual([]);
    // An overlay that was there stays.
    createQcow2(scope.path('o.qcow2'), undefined, '-F', 'raw', '-b', raw);
    expect(await refusal(scope, overlay, ...options, raw)).toContain(why);
    expect(names(scope)).toEqual(['o.qcow2']);
  });
});

describe('mount that fails', () => {
  const SERVERS: [string, (scope: Scope) => Promise<readonly string[]>][] = [
    ['a local image', async (scope) => [await createRaw(scope, 4)]],
    [
      'a compressed image',
      async (scope) => {
        const raw = await createRaw(scope, 4);
        await runProgram('xz', '-0', raw);
        return [`${raw}.xz`];
      },
    ],
    [
      'an image at a URL',
      async (scope) => [(await startFaultyWebServer(scope, Buffer.alloc(4096, 'x'))).url],
    ],
    ['a server', async () => ['[', 'nbdkit', 'memory', '1M', ']']],
  ];

  it.each(SERVERS)('of %s leaves no file that it has made', async (what, make) => {
    const scope = createScope();
    const server = await make(scope);
    mkdirSync(scope.path('mnt'));
    const mount = async (...options: readonly string[]): Promise<void> => {
      const program = startNbdfuse(scope, [...options, '--partitions', scope.path('mnt'), ...server]);
      expect(await program.ended, program.stderr).toBe(1);
      expect(program.stderr).toContain('the disk has no partition table');
    };
    await mount('--cache-file', scope.path('cache'), '--trace', scope.path('trace'));
    const left = names(scope);
    // Bytes that the inspection has fetched are of use for a retry.
    const held = left.includes('cache')
      ? await runProgram('node', NBDFUSE, 'cache', 'list', '--json', scope.path('cache'))
      : '';
    expect(left).toEqual(held === '' ? [] : ['cache', 'cache.index']);
    expect(held).not.toContain('"held":0');
    if (what === 'a server') return;
    await mount(`--overlay=${scope.path('o.qcow2')}`);
    expect(names(scope)).not.toContain('o.qcow2');
    // One that was there stays.
    writeFileSync(scope.path('trace'), '');
    await mount('--trace', scope.path('trace'));
    expect(names(scope)).toContain('trace');
  });
});
