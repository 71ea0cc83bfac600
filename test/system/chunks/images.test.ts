// Compressed files of each coding, mounted by name: the bytes of the reference program, and EIO from the damage on.

import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { NbdClient } from '../../../src/client/client.js';
import { createScope } from '../../support/cleanup.js';
import { hashOf } from '../../support/images.js';
import { runShell } from '../../support/run/command.js';
import { mountDisk, NBDFUSE } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('xz', 'gzip', 'bzip2', 'zstd', 'lz4');

const CODINGS = [
  { coding: 'xz', ending: 'xz', pack: 'xz -0 --block-size=700001', unpack: 'xz -dc' },
  { coding: 'gzip', ending: 'gz', pack: 'gzip -1', unpack: 'gzip -dc' },
  { coding: 'bzip2', ending: 'bz2', pack: 'bzip2 -1', unpack: 'bzip2 -dc' },
  { coding: 'zstd', ending: 'zst', pack: 'zstd -q -3 -c', unpack: 'zstd -qdc' },
  { coding: 'lz4', ending: 'lz4', pack: 'lz4 -q -B4 -BD -c', unpack: 'lz4 -qdc' },
] as const;

/** A raw disk of no round size: bytes that do not compress, zeros and text. */
const RAW =
  '(head -c 1500001 /dev/urandom; head -c 2M /dev/zero; seq 200000; head -c 777 /dev/urandom) >"$0"';

/** An empty part, two parts, and an empty part: all that is one file for the reference program. */
const SEVERAL = (pack: string): string =>
  `(: | ${pack}; head -c 2000003 "$0" | ${pack}; tail -c +2000004 "$0" | ${pack}; : | ${pack}) >"$1"`;

/** The whole units before byte 2000003, where the second part begins. */
const SOUND = 7 * 256 * 1024;

/** The chunk server of a file. */
const serverOf = (coding: string, file: string) => ({
  socketActivation: [process.execPath, `${NBDFUSE}-chunks`, `--coding=${coding}`, `--file=${file}`],
});

describe.each(CODINGS)('image compressed with $coding', ({ coding, ending, pack, unpack }) => {
  it('in several parts has the bytes that the program of the format gives', async () => {
    const scope = createScope();
    const [raw, image] = [scope.path('disk.raw'), scope.path(`disk.img.${ending}`)];
    await runShell(RAW, raw);
    await runShell(SEVERAL(pack), raw, image);
    await runShell(`${unpack} "$1" | cmp - "$0"`, raw, image);
    const disk = await mountDisk(scope, { server: [image] });
    expect(await hashOf(disk.file)).toBe(await hashOf(raw));
    expect(await disk.stop()).toBe(0);
    await expect(runShell('pgrep -f "nbdfuse-chunk[s].*$0"', image)).rejects.toThrow();
  });

  it('gives its bytes before a damage, and an error from there on', async () => {
    const scope = createScope();
    const [raw, image] = [scope.path('disk.raw'), scope.path(`disk.img.${ending}`)];
    await runShell(RAW, raw);
    await runShell(`(head -c 2000003 "$0" | ${pack}) >"$1"`, raw, image);
    const first = readFileSync(image).length;
    await runShell(`(tail -c +2000004 "$0" | ${pack}) >>"$1"`, raw, image);
    const bytes = readFileSync(image);
    for (let at = first + 60; at < first + 160; at++) bytes[at] ^= 0xa5;
    writeFileSync(image, bytes);
    const client = await NbdClient.connect(serverOf(coding, image));
    scope.add(() => client.close());
    const [head, ...rest] = await Promise.allSettled([
      client.read(0, SOUND),
      client.read(2000003, 4096),
      client.read(2000003 - 100, 4096),
    ]);
    const hash = createHash('sha256').update(readFileSync(raw).subarray(0, SOUND)).digest('hex');
    expect(head.status === 'fulfilled' && createHash('sha256').update(head.value).digest('hex')).toBe(hash);
    expect(rest.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  });
});
