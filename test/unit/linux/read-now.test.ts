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
    const bytes = Buffer.alloc(70_000);
    expect(now.read(fd, bytes, 1000)).toBe(true);
    expect(bytes.equals(CONTENT.subarray(1000, 71_000))).toBe(true);
    expect(now.read(fd, bytes, CONTENT.length - 69_999)).toBe(false);
    expect(now.read(fd, bytes, CONTENT.length - 70_000)).toBe(true);
  });

  it('get those that the kernel has, and leave others to the disk', () => {
    const scope = createScope();
    const directory = directoryOf(scope);
    const path = join(directory, 'file');
    const fd = opened(scope, path);
    const now = new ReadNow(fd);
    const bytes = Buffer.alloc(70_000);
    const canTell = KNOWN.includes(statfsSync(directory).type);
    expect(now.read(fd, bytes, 1000)).toBe(canTell);
    if (canTell) expect(bytes.equals(CONTENT.subarray(1000, 71_000))).toBe(true);
    execFileSync('dd', [`if=${path}`, 'of=/dev/null', 'iflag=nocache', 'count=0', 'status=none']);
    execFileSync('dd', [`of=${path}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0', 'status=none']);
    expect(now.read(fd, bytes, 1000)).toBe(false);
  });

  it('are impossible for files without a place in memory', () => {
    const fd = openSync('/proc/self/maps', 'r');
    createScope().add(() => closeSync(fd));
    expect(new ReadNow(fd).read(fd, Buffer.alloc(10), 0)).toBe(false);
  });
});
