import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ReadNow } from '../../../src/linux/read-now.js';
import { createScope, type Scope } from '../../support/cleanup.js';

/** ext2 to ext4, XFS and btrfs, which tell what they have in memory. */
const KNOWN: readonly number[] = [0xef53, 0x58465342, 0x9123683e];

const CONTENT = Buffer.from(Array.from({ length: 200_000 }, (_, i) => (i * 7) % 251));

function opened(scope: Scope, path: string): number {
  writeFileSync(path, CONTENT);
  const fd = openSync(path, 'r');
  scope.add(() => closeSync(fd));
  return fd;
}

/** A directory on the disk of temporary files. */
function directoryOf(scope: Scope): string {
  const path = mkdtempSync(join(tmpdir(), 'nbdfuse-test-'));
  scope.add(() => rmSync(path, { recursive: true }));
  return path;
}

describe('reads that do not wait', () => {
  it('get the bytes of a file in memory, and nothing behind its end', () => {
    const scope = createScope();
    const fd = opened(scope, scope.path('file'));
    const now = new ReadNow(fd);
    for (const length of [70_000, 1, 100_000, 4096])
      expect(now.read(1000, length)).toEqual(CONTENT.subarray(1000, 1000 + length));
    expect(now.read(CONTENT.length - 69_999, 70_000)).toBeUndefined();
    expect(now.read(CONTENT.length - 70_000, 70_000)).toEqual(CONTENT.subarray(-70_000));
  });

  it('get those that the kernel has, and leave others to the disk', () => {
    const scope = createScope();
    const directory = directoryOf(scope);
    const path = join(directory, 'file');
    const fd = opened(scope, path);
    const now = new ReadNow(fd);
    const canTell = KNOWN.includes(statfsSync(directory).type);
    expect(now.read(1000, 70_000)).toEqual(canTell ? CONTENT.subarray(1000, 71_000) : undefined);
    execFileSync('dd', [`if=${path}`, 'of=/dev/null', 'iflag=nocache', 'count=0', 'status=none']);
    execFileSync('dd', [`of=${path}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0', 'status=none']);
    expect(now.read(1000, 70_000)).toBeUndefined();
  });

  it('are impossible for files without a place in memory', () => {
    const fd = openSync('/proc/self/maps', 'r');
    createScope().add(() => closeSync(fd));
    expect(new ReadNow(fd).read(0, 10)).toBeUndefined();
  });
});
