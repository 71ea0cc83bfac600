// --all with a lost server, a slow list, or a false list.

import { mkdirSync, writeFileSync } from 'node:fs';
import { open, readdir, readFile, stat } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { type ExportName, startLister } from '../../support/lister.js';
import { mountDisk, startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit');

const MIB = 1024 * 1024;

function* numbered(count: number): Generator<string> {
  for (let i = 0; i < count; i++) yield `export ${i}`;
}

describe('--all with export names that are no file names', () => {
  it('has a file for each export, whose name converts back', async () => {
    const scope = createScope();
    const names: ExportName[] = [
      'a/b',
      'a/b',
      '../../etc/passwd',
      '.',
      '..',
      '',
      'nbd',
      'x'.repeat(4096),
      '\u0001\u007f\u001b]0;title\u0007',
      Buffer.from([0x66, 0xff, 0xfe]),
    ];
    const server = await startLister(scope, () => names);
    const { mountpoint, stop, program } = await mountDisk(scope, {
      server: [server.uri],
      options: ['--all'],
    });
    const shown = (await readdir(mountpoint)).sort();
    expect(shown).toEqual([
      '%01%7F%1B]0;title%07',
      '%2E',
      '%2E%2E',
      '..%2F..%2Fetc%2Fpasswd',
      'a%2Fb',
      'f%FF%FE',
      'nbd',
      expect.stringMatching(/^nbd~[0-9a-f]{16}$/),
      expect.stringMatching(/^x{238}~[0-9a-f]{16}$/),
    ]);
    for (const name of shown) expect((await stat(`${mountpoint}/${name}`)).size).toBe(MIB);
    expect(await stop()).toBe(0);
    expect(program.stderr).toBe('');
  });

  it.each<[string, () => Iterable<ExportName>, RegExp]>([
    ['10001 names', () => numbered(10_001), /the server sent too many replies to NBD_OPT_LIST \(10001\)/],
    ['a NUL in a name', () => ['a\0b'], /the name of a listed export contains a NUL/],
    ['a name of 4097 bytes', () => ['y'.repeat(4097)], /has 4097 bytes; a string may have 4096/],
  ])('refuses them with one line: %s', async (_, list, line) => {
    const scope = createScope();
    const server = await startLister(scope, list);
    mkdirSync(scope.path('mnt'));
    const program = startNbdfuse(scope, ['--all', scope.path('mnt'), server.uri]);
    expect(await program.ended).toBe(1);
    expect(program.stderr).toMatch(line);
    expect(program.stderr.trimEnd().split('\n')).toHaveLength(1);
  });

  it('shows 10000 of them, each with its size', async () => {
    const scope = createScope();
    const server = await startLister(scope, () => numbered(10_000));
    const { mountpoint, stop } = await mountDisk(scope, { server: [server.uri], options: ['--all'] });
    const names = await readdir(mountpoint);
    expect(names).toEqual([...numbered(10_000)].sort());
    expect((await stat(`${mountpoint}/export 9999`)).size).toBe(MIB);
    expect(await stop()).toBe(0);
  });
});

describe('--all without a new list', () => {
  it('keeps the last one, and a reader of the directory waits once for a few seconds', async () => {
    const scope = createScope();
    let isHanging = false;
    const server = await startLister(scope, () => (isHanging ? undefined : ['a', 'b']));
    const { mountpoint, stop } = await mountDisk(scope, { server: [server.uri], options: ['--all'] });
    expect(await readdir(mountpoint)).toEqual(['a', 'b']);
    isHanging = true;
    const before = server.connections.length;
    await until('a request for a new list', async () => {
      expect(await readdir(mountpoint)).toEqual(['a', 'b']);
      return server.connections.length > before;
    });
    const then = performance.now();
    for (let i = 0; i < 20; i++) expect(await readdir(mountpoint)).toEqual(['a', 'b']);
    await expect(stat(`${mountpoint}/c`)).rejects.toThrow(/ENOENT/);
    expect(performance.now() - then).toBeLessThan(3000);
    expect(server.connections.length).toBe(before + 1);
    expect(await stop()).toBe(0);
  });

  it('reports a list that breaks the rules once, and keeps the last one', async () => {
    const scope = createScope();
    let names = ['a'];
    const server = await startLister(scope, () => names);
    const { mountpoint, stop, program } = await mountDisk(scope, {
      server: [server.uri],
      options: ['--all'],
    });
    names = ['a', 'b\0'];
    await until('the complaint', async () => {
      expect(await readdir(mountpoint)).toEqual(['a']);
      return /cannot list the exports: .* contains a NUL .*; showing the last list/.test(program.stderr);
    });
    expect(await stop()).toBe(0);
  });
});

describe('--all with a lost server', () => {
  it('reconnects every file, and then opens files that were not open', async () => {
    const scope = createScope();
    mkdirSync(scope.path('images'));
    // At most as many at once as this process has threads.
    const names = ['a', 'b', 'd'];
    for (const name of names) writeFileSync(scope.path('images', name), Buffer.alloc(MIB, name));
    const start = () => startNbdkit(scope, 'file', `dir=${scope.path('images')}`);
    const server = await start();
    const options = ['--all', '--cache=none'];
    const { mountpoint, stop, program } = await mountDisk(scope, { server: [server.uri()], options });
    const handles = await Promise.all(names.slice(0, 2).map((name) => open(`${mountpoint}/${name}`, 'r')));
    await server.program.kill('SIGKILL');
    await program.says(/b: the server is lost/);
    const reads = handles.map((handle) => handle.read(Buffer.alloc(4096), 0, 4096, 8192));
    const opening = readFile(`${mountpoint}/d`);
    await program.says(/d: cannot connect/);
    expect((await readdir(mountpoint)).sort()).toEqual(names);
    await start();
    for (const [i, { buffer }] of (await Promise.all(reads)).entries())
      expect(buffer).toEqual(Buffer.alloc(4096, names[i]));
    expect((await opening).equals(Buffer.alloc(MIB, 'd'))).toBe(true);
    for (const handle of handles) await handle.close();
    expect(await stop()).toBe(0);
  });

  it('fails an open(2) after the time of --reconnect, and later ones at once, until the server is back', async () => {
    const scope = createScope();
    mkdirSync(scope.path('images'));
    writeFileSync(scope.path('images', 'a'), Buffer.alloc(4096, 'a'));
    const start = () => startNbdkit(scope, 'file', `dir=${scope.path('images')}`);
    const server = await start();
    const options = ['--all', '--reconnect=1'];
    const { mountpoint, stop, program } = await mountDisk(scope, { server: [server.uri()], options });
    await server.program.kill('SIGKILL');
    await expect(readFile(`${mountpoint}/a`)).rejects.toThrow(/EIO/);
    expect(program.stderr).toMatch(/mnt\/a: open failed: /);
    await expect(readFile(`${mountpoint}/a`)).rejects.toThrow(/EIO/);
    await start();
    expect(await readFile(`${mountpoint}/a`)).toEqual(Buffer.alloc(4096, 'a'));
    expect(await stop()).toBe(0);
  });
});
