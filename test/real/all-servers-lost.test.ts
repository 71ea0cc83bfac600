// --all when the server is lost, slow to tell its list, or lies about it.

import { mkdirSync, writeFileSync } from 'node:fs';
import { open, readdir, readFile, stat } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { createScope } from '../helpers/cleanup.js';
import { type ExportName, startLister } from '../helpers/lister.js';
import { mountDisk, startNbdfuse } from '../helpers/mount.js';
import { requirePrograms } from '../helpers/requires.js';
import { startNbdkit } from '../helpers/servers.js';
import { until } from '../helpers/until.js';

requirePrograms('nbdkit');

const MIB = 1024 * 1024;

function* numbered(count: number): Generator<string> {
  for (let i = 0; i < count; i++) yield `export ${i}`;
}

describe('a server that lists what no file can be called', () => {
  it('has a file for each export, whose name can be read back', async () => {
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
  ])('is refused with one line: %s', async (_, list, line) => {
    const scope = createScope();
    const server = await startLister(scope, list);
    mkdirSync(scope.path('mnt'));
    const program = startNbdfuse(scope, ['--all', scope.path('mnt'), server.uri]);
    expect(await program.ended).toBe(1);
    expect(program.stderr).toMatch(line);
    expect(program.stderr.trimEnd().split('\n')).toHaveLength(1);
  });

  it('may have 10000 of them, which are looked at one after another', async () => {
    const scope = createScope();
    const server = await startLister(scope, () => numbered(10_000));
    const { mountpoint, stop } = await mountDisk(scope, { server: [server.uri], options: ['--all'] });
    const names = await readdir(mountpoint);
    expect(names).toEqual([...numbered(10_000)].sort());
    expect((await stat(`${mountpoint}/export 9999`)).size).toBe(MIB);
    expect(await stop()).toBe(0);
  });
});

describe('a list that cannot be had', () => {
  it('leaves the last one, and who looks waits for a few seconds once', async () => {
    const scope = createScope();
    let isHanging = false;
    const server = await startLister(scope, () => (isHanging ? undefined : ['a', 'b']));
    const { mountpoint, stop } = await mountDisk(scope, { server: [server.uri], options: ['--all'] });
    expect(await readdir(mountpoint)).toEqual(['a', 'b']);
    isHanging = true;
    const before = server.connections.length;
    await until('a new list to be asked for', async () => {
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

  it('that breaks the rules is told of once, and the last one stays', async () => {
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

describe('a server that is lost', () => {
  it('is connected to again by every file, and files that were not open can be opened then', async () => {
    const scope = createScope();
    mkdirSync(scope.path('images'));
    // Not more at once than this process has threads for.
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

  it('fails who opens a file when the time is over, and the next without waiting, until it is back', async () => {
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
