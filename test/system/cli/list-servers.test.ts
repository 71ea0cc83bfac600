// `nbdfuse --list` on common servers.

import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { type Outcome, runProgram, tryProgram } from '../../support/run/command.js';
import { createQcow2 } from '../../support/run/images.js';
import { mountDisk, NBDFUSE } from '../../support/run/mount.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit, startNbdServer, startQemuNbd } from '../../support/run/servers.js';

requirePrograms('nbdkit', 'nbd-server', 'qemu-nbd', 'qemu-img');

interface ListedExport {
  readonly name: string;
  readonly description: string | null;
  readonly size: number | null;
  readonly flags: readonly string[];
  readonly blockSizes: { minimum: number; preferred: number; maximum: number } | null;
}

async function exportsOf(...server: readonly string[]): Promise<readonly ListedExport[]> {
  const { exports } = JSON.parse(await runProgram('node', NBDFUSE, '--list', '--json', ...server)) as {
    exports: ListedExport[];
  };
  return exports;
}

const list = (...server: readonly string[]): Promise<Outcome> =>
  tryProgram('node', NBDFUSE, '--list', ...server);

describe('--list', () => {
  it('a name that is not UTF-8 has a form for URIs, which opens the export', async () => {
    const scope = createScope();
    mkdirSync(scope.path('exports'));
    const name = Buffer.concat([Buffer.from(scope.path('exports/n')), Buffer.of(0xff), Buffer.from('u')]);
    writeFileSync(name, 'x'.repeat(512));
    const server = await startNbdkit(scope, 'file', `dir=${scope.path('exports')}`);
    const { stdout } = await list(server.uri());
    expect(stdout).toMatch(/^export "n\\xffu"\n {4}name in a URI: n%FFu\n {4}size: 512 bytes\n/);
    const disk = await mountDisk(scope, { server: [server.uri().replace('/?', '/n%FFu?')] });
    expect(readFileSync(disk.file, 'utf8')).toBe('x'.repeat(512));
  });

  it('shows several exports of nbdkit, with their properties', async () => {
    const scope = createScope();
    const script = scope.path('plugin');
    const lines = [
      '#!/bin/sh',
      'case "$1" in',
      '  list_exports) printf "INTERLEAVED\\nsmall\\nthe small one\\nlarge\\nthe large one\\n";;',
      '  open) echo "$3";;',
      '  get_size) case "$2" in small) echo 512;; *) echo 9223372036854775807;; esac;;',
      '  block_size) echo 512 65536 1048576;;',
      '  can_write|can_flush) exit 0;;',
      '  pread) exit 1;;',
      '  *) exit 2;;',
      'esac',
    ];
    writeFileSync(script, `${lines.join('\n')}\n`, { mode: 0o755 });
    const server = await startNbdkit(scope, 'sh', script);
    const { status, stdout, stderr } = await list(server.uri());
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const [small, large, ...more] = stdout.split('\n\n');
    expect(more).toEqual([]);
    expect(small).toMatch(/^export "small"\n {4}description: the small one\n {4}size: 512 bytes\n/);
    expect(large).toMatch(/^export "large"\n {4}description: the large one\n {4}size: 9223372036854775807 /);
    expect(small).toMatch(/^ {4}flags: .*NBD_FLAG_SEND_FLUSH/m);
    expect(small).not.toContain('NBD_FLAG_READ_ONLY');
    expect(small).toMatch(/^ {4}block sizes: minimum 512, preferred 65536, maximum 1048576$/m);
  });

  it('shows both exports of nbd-server, with the size that it reports only to clients of the export', async () => {
    const scope = createScope();
    const [first, second] = ['first.raw', 'second.raw'].map((name) => scope.path(name));
    for (const [file, size] of [
      [first, 1_048_576],
      [second, 65_536],
    ] as const) {
      writeFileSync(file, '');
      truncateSync(file, size);
    }
    const more = ['[second]', `exportname = ${second}`, 'readonly = true'];
    const { socket } = await startNbdServer(scope, first, 'flush = true', ...more);
    const exports = await exportsOf('--unix', socket);
    expect(exports.map(({ name, size }) => [name, size])).toEqual(
      expect.arrayContaining([
        ['disk', 1_048_576],
        ['second', 65_536],
      ]),
    );
    expect(exports).toHaveLength(2);
    const isReadOnly = ({ flags }: ListedExport): boolean => flags.includes('NBD_FLAG_READ_ONLY');
    expect(exports.filter(isReadOnly).map(({ name }) => name)).toEqual(['second']);
  });

  it('shows the export of qemu-nbd with its description and block sizes', async () => {
    const scope = createScope();
    const file = createQcow2(scope.path('disk.qcow2'), '5T');
    const server = await startQemuNbd(scope, '-f', 'qcow2', '-x', 'disk', '-D', 'a qcow2 file', file);
    expect(await exportsOf(server.uri())).toMatchObject([
      { name: 'disk', description: 'a qcow2 file', size: 5 * 2 ** 40, blockSizes: { minimum: 1 } },
    ]);
    expect((await list(server.uri())).stdout).toContain('    size: 5497558138880 bytes (5 TiB)\n');
  });

  it.each([
    ['a child with a listening socket', ['[', 'nbdkit', 'memory', '1M', ']']],
    ['a child on its standard input and output', ['--command', 'nbdkit', '-s', 'memory', '1M']],
    ['an oldstyle server', ['[', 'nbdkit', '-o', 'memory', '1M', ']']],
  ])('shows the exports of %s, and the child ends', async (_, server) => {
    const scope = createScope();
    const program = new Program(scope, NBDFUSE, ['--list', ...server]);
    expect(await program.ended).toBe(0);
    expect(program.stdout).toMatch(/^export ""\n.* {4}size: 1048576 bytes \(1 MiB\)\n/s);
  });
});

describe('--list without a list', () => {
  it.each<[string, string[], RegExp]>([
    ['no server', ['--unix', '/nonexistent'], /^nbdfuse: cannot connect to socket \/nonexistent: /],
    ['no program', ['[', 'no-such-server', ']'], /^nbdfuse: cannot start no-such-server: no such program/],
    ['no URI', ['disk.qcow2'], /^nbdfuse: bad NBD URI/],
  ])('prints one line and ends with status 1: %s', async (_, server, message) => {
    const { status, stdout, stderr } = await list(...server);
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(message);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  });

  it('reports that the server forbids the list', async () => {
    const scope = createScope();
    const file = scope.path('disk');
    writeFileSync(file, Buffer.alloc(512));
    const { socket } = await startNbdServer(scope, file, '[generic]', 'allowlist = false');
    const { status, stderr } = await list('--unix', socket);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^nbdfuse: cannot list exports: .*NBD_REP_ERR_POLICY/);
  });

  it('reports a signal, and the child ends', async () => {
    const scope = createScope();
    const silent = ['--command', 'sh', '-c', 'echo started >&2; exec sleep 60'];
    const program = new Program(scope, NBDFUSE, ['--list', ...silent]);
    await program.says(/started/);
    expect(await program.kill('SIGTERM')).toBe(1);
    expect(program.stderr).toBe('started\nnbdfuse: stopped by SIGTERM\n');
  });
});
