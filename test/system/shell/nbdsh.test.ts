// nbdsh on real servers, and disks whose content is the name of the export.

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { NbdClient } from '../../../src/client/client.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { type Outcome, tryProgram } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { type RealServer, startNbdkit } from '../../support/run/servers.js';

requirePrograms('nbdkit', 'base64', 'dd');

const NBDSH = fileURLToPath(new URL('../../../bin/nbdsh', import.meta.url));

const nbdsh = (...words: readonly string[]): Promise<Outcome> => tryProgram('node', NBDSH, ...words);

/** A server whose exports have their name as size. */
function startSized(scope: Scope): Promise<RealServer> {
  const zeros = 'head -c $3 /dev/zero';
  return startNbdkit(scope, 'eval', 'open=echo $3', 'get_size=echo $2', `pread=${zeros}`);
}

/** A server whose exports have their name as content, in base64. */
function startNamed(scope: Scope): Promise<RealServer> {
  const content = 'echo $2 | base64 -d';
  const part = `${content} | dd skip=$4 count=$3 iflag=skip_bytes,count_bytes status=none`;
  return startNbdkit(scope, 'eval', 'open=echo $3', `get_size=${content} | wc -c`, `pread=${part}`);
}

/** A boot sector: code, many NUL bytes, and the signature at its end. */
function bootSector(): Buffer {
  const sector = Buffer.alloc(512);
  Buffer.from('b83412fabe007cebfe', 'hex').copy(sector);
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

describe('nbdsh', () => {
  it('prints the size that the export name states', async () => {
    const server = await startSized(createScope());
    for (const size of ['512', '1048576', '9223372036854775296']) {
      expect(await nbdsh('-u', server.uri(size), '-c', 'print(h.size)')).toEqual({
        status: 0,
        stdout: `${size}\n`,
        stderr: '',
      });
    }
  });

  it('runs several scripts as one program, with await, writes and reads', async () => {
    const server = await startNbdkit(createScope(), 'memory', '1M');
    const pieces = ['const text = Buffer.from("hello")', 'await h.write(10, text)', 'await h.flush()'];
    const show = 'print((await h.read(10, 5)).toString(), h.size)';
    const words = [...pieces, show].flatMap((piece) => ['-c', piece]);
    expect(await nbdsh('-u', server.uri(), ...words)).toEqual({
      status: 0,
      stdout: 'hello 1048576\n',
      stderr: '',
    });
  });

  it('creates clients without a URI', async () => {
    const server = await startNbdkit(createScope(), 'memory', '64K');
    const code = `const c = await NbdClient.connect('${server.uri()}'); print(c.size); await c.close()`;
    expect((await nbdsh('-c', code)).stdout).toBe('65536\n');
  });

  it.each([
    [['--nonsense'], /^nbdsh: Unknown option '--nonsense'; see nbdsh --help\n$/],
    [['-u', 'nbd+unix:///?socket=/none', '-c', '1'], /^nbdsh: .*\/none: no such file or directory\n$/],
    [['-c', 'throw new Error("mine")'], /^nbdsh: mine\n$/],
    [['-c', 'nothing.here'], /^nbdsh: ReferenceError: nothing is not defined\n$/],
    [['-c', 'throw new Error("a\\u001bb")'], /^nbdsh: a\\[^\n]*b\n$/],
  ])('prints errors in one line: %j', async (words, line) => {
    const { status, stdout, stderr } = await nbdsh(...words);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(line);
  });
});

describe('export with NUL bytes in its name and contents', () => {
  it('has the same contents in the library, in nbdsh and as a file', async () => {
    const scope = createScope();
    const sector = bootSector();
    const server = await startNamed(scope);
    const uri = server.uri(sector.toString('base64'));
    const client = await NbdClient.connect(uri);
    scope.add(() => client.close());
    expect(client.size).toBe(512n);
    expect((await client.read(0, 512)).equals(sector)).toBe(true);
    const code = 'print((await h.read(510, 2)).toString("hex"), (await h.read(0, 9)).toString("hex"))';
    expect((await nbdsh('-u', uri, '-c', code)).stdout).toBe('55aa b83412fabe007cebfe\n');
    const disk = await mountDisk(scope, { server: [uri] });
    expect((await readFile(disk.file)).equals(sector)).toBe(true);
  });
});
