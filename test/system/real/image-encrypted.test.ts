// Encrypted images with --key-file: LUKS, and qcow2 with LUKS or AES inside.

import { readFileSync, writeFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { readAt, writeAt } from '../../support/files.js';
import { blockAt, createRaw } from '../../support/images.js';
import { makeEncrypted, runProgram } from '../../support/run/command.js';
import { mountDisk, startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('qemu-nbd', 'qemu-img', 'qemu-io', 'nbdkit', 'xz', 'cryptsetup');

const KEY = 'a secret, that = no: word; of a command line has';
const MIB = 1024 * 1024;

/** A file with a key. */
function keyFile(scope: Scope, text: string, name = 'the, key'): string {
  const path = scope.path(name);
  writeFileSync(path, text, { mode: 0o600 });
  return path;
}

const escaped = (path: string): string => path.replaceAll(',', ',,');

/** The disk of `createRaw` in an encrypted image. @param method of a qcow2; undefined: LUKS alone */
async function encrypted(scope: Scope, name: string, key: string, method?: string): Promise<string> {
  const [raw, image] = [await createRaw(scope, 2, 'source.raw'), scope.path(name)];
  const secret = ['--object', `secret,id=s,file=${escaped(key)}`];
  const time = (prefix: string): string => (method === 'aes' ? '' : `,${prefix}iter-time=10`);
  const options =
    method === undefined
      ? `key-secret=s${time('')}`
      : `encrypt.format=${method},encrypt.key-secret=s${time('encrypt.')}`;
  const format = method === undefined ? 'luks' : 'qcow2';
  const words = ['convert', ...secret, '-f', 'raw', '-O', format, '-o', options, raw, image];
  await makeEncrypted(...words);
  return image;
}

/** Nbdfuse must refuse an image; returns its last line. */
async function refusal(scope: Scope, image: string, ...options: string[]): Promise<string> {
  const program = startNbdfuse(scope, [...options, scope.path('refused'), image]);
  expect(await program.ended).toBe(1);
  const lines = program.stderr.trimEnd().split('\n');
  expect(lines.length).toBeLessThanOrEqual(2);
  return lines.at(-1) ?? '';
}

const KINDS = [
  ['disk.luks', undefined],
  ['disk.img', undefined],
  ['disk.qcow2', 'luks'],
  ['old.qcow2', 'aes'],
] as const;

it.each(KINDS)('encrypted image: --key-file reads and writes %s (%s)', async (name, method) => {
  const scope = createScope();
  const key = keyFile(scope, KEY.slice(0, 16));
  const image = await encrypted(scope, name, key, method);
  const options = [`--key-file=${key}`];
  const disk = await mountDisk(scope, { server: [image], options });
  expect((await stat(disk.file)).size).toBe(2 * MIB);
  expect(await blockAt(disk.file, 8192)).toBe(2);
  await writeAt(disk.file, Buffer.from('written'), 4096);
  const words = readFileSync(`/proc/${disk.program.pid}/cmdline`, 'utf8');
  expect(words + disk.stderr).not.toContain(KEY.slice(0, 16));
  expect(await disk.stop()).toBe(0);
  expect(readFileSync(image).includes('written')).toBe(false);
  const again = await mountDisk(scope, { server: [image], options: [...options, '-r', '--overlay'] });
  expect((await readAt(again.file, 4096, 7)).toString()).toBe('written');
});

it('encrypted image: --key-file opens what cryptsetup makes, and a wrong key does not', async () => {
  const scope = createScope();
  const key = keyFile(scope, KEY);
  const image = scope.path('disk.img');
  writeFileSync(image, Buffer.alloc(4 * MIB));
  const words = [
    'luksFormat',
    '-q',
    '--type=luks1',
    '--pbkdf-force-iterations=1000',
    `--key-file=${key}`,
    image,
  ];
  await runProgram('cryptsetup', ...words);
  const disk = await mountDisk(scope, { server: [image], options: [`--key-file=${key}`] });
  await writeAt(disk.file, Buffer.from('written'), 4096);
  expect((await readAt(disk.file, 4096, 7)).toString()).toBe('written');
  expect(await disk.stop()).toBe(0);
  await runProgram('cryptsetup', 'luksDump', image);
  expect(await refusal(scope, image, `--key-file=${keyFile(scope, 'none', 'none')}`)).toMatch(
    /does not open/,
  );
});

it.each([
  ['disk.luks', undefined],
  ['disk.qcow2', 'luks'],
] as const)('encrypted image: a wrong key for %s is one line', async (name, method) => {
  const scope = createScope();
  const image = await encrypted(scope, name, keyFile(scope, KEY), method);
  const wrong = keyFile(scope, `${KEY}\n`, 'wrong');
  for (const more of [[], ['--partition=1'], ['--daemon']]) {
    expect(await refusal(scope, image, `--key-file=${wrong}`, ...more)).toBe(
      `nbdfuse: the key in ${wrong} does not open ${image}: use another one; a newline at the end of the file belongs to the key`,
    );
  }
});

it('encrypted image: a missing or superfluous key is one line', async () => {
  const scope = createScope();
  const key = keyFile(scope, KEY);
  const image = await encrypted(scope, 'disk.qcow2', key, 'luks');
  expect(await refusal(scope, image)).toBe(
    `nbdfuse: ${image} is encrypted: name the file that contains its key, with --key-file=FILE`,
  );
  expect(await refusal(scope, image, '--key-file=none')).toBe(
    'nbdfuse: cannot read the key file none: no such file or directory',
  );
  const raw = scope.path('source.raw');
  expect(await refusal(scope, raw, `--key-file=${key}`)).toBe(
    `nbdfuse: ${raw} is not encrypted: remove --key-file`,
  );
  writeFileSync(raw, Buffer.concat([Buffer.from('LUKS\xba\xbe\0\x02', 'latin1'), Buffer.alloc(MIB)]));
  expect(await refusal(scope, raw, `--key-file=${key}`)).toMatch(
    /is LUKS version 2, which QEMU does not support/,
  );
});

it('encrypted image: works packed, with a kept overlay, and as a backing file', async () => {
  const scope = createScope();
  const key = keyFile(scope, KEY);
  const image = await encrypted(scope, 'disk.qcow2', key, 'luks');
  await runProgram('xz', '-k', '-0', image);
  const options = [`--key-file=${key}`, `--overlay=${scope.path('kept.qcow2')}`];
  for (let turn = 0; turn < 2; turn++) {
    const disk = await mountDisk(scope, { server: [`${image}.xz`], options });
    expect(await blockAt(disk.file, 8192)).toBe(2);
    if (turn === 1) expect((await readAt(disk.file, 4096, 4)).toString()).toBe('kept');
    await writeAt(disk.file, Buffer.from('kept'), 4096);
    expect(await disk.stop()).toBe(0);
  }
  const upper = scope.path('upper.qcow2');
  await runProgram(
    'qemu-img',
    'create',
    '-q',
    '-u',
    '-f',
    'qcow2',
    '-F',
    'qcow2',
    '-b',
    'disk.qcow2',
    upper,
    '2M',
  );
  expect(await refusal(scope, upper)).toMatch(/disk\.qcow2 is encrypted: name the file/);
  const disk = await mountDisk(scope, { server: [upper], options: [`--key-file=${key}`] });
  expect(await blockAt(disk.file, 8192)).toBe(2);
});
