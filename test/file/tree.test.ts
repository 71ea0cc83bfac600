// The metadata rules of a disk shown as a file.

import { describe, expect, test } from 'vitest';
import { type AttributeChange, type Node, Tree } from '../../src/file/tree.js';
import { FATTR_MODE, FATTR_MTIME, FATTR_MTIME_NOW, FATTR_SIZE } from '../../src/fuse/constants.js';

const OPTIONS = { uid: 1000, gid: 100, umask: 0o022, now: 5000 };
const EPERM = 1;
const EACCES = 13;
const EROFS = 30;
const NOTHING: AttributeChange = {
  valid: 0,
  mode: 0,
  uid: 0,
  gid: 0,
  size: 0n,
  atime: 0,
  mtime: 0,
  byOpen: false,
};

function oneFile(readOnly = false, size = 2n ** 62n): { tree: Tree; node: Node } {
  const tree = new Tree([{ name: 'nbd', size, readOnly, blockSize: 4096 }], false, OPTIONS);
  return { tree, node: tree.files()[0] };
}

describe('what is shown', () => {
  test('a directory 0755 with the file 0666 less the umask, owned by who mounts', () => {
    const { tree, node } = oneFile();
    expect(tree.root.mode).toBe(0o040755);
    expect(node).toMatchObject({ mode: 0o100644, uid: 1000, gid: 100, size: 2n ** 62n, mtime: 5000 });
    expect(tree.lookup('nbd')).toBe(node);
    expect(tree.lookup('other')).toBeUndefined();
    expect(tree.node(node.nodeid)).toBe(node);
  });

  test('a read-only file is 0444', () => {
    expect(oneFile(true).node.mode).toBe(0o100444);
  });

  test('a file mounted on its own is the root', () => {
    const tree = new Tree([{ name: '', size: 1n, readOnly: false, blockSize: 512 }], true, OPTIONS);
    expect(tree.root).toMatchObject({ nodeid: 1, isDirectory: false, size: 1n, blocks: 1n });
    expect(tree.files()).toEqual([tree.root]);
  });

  test('a file that is removed is not found again, but stays for who has it', () => {
    const { tree, node } = oneFile();
    tree.remove('nbd');
    expect(tree.lookup('nbd')).toBeUndefined();
    expect(tree.node(node.nodeid)).toBe(node);
  });
});

describe('setting attributes', () => {
  const resize = (size: bigint, byOpen: boolean): AttributeChange => ({
    ...NOTHING,
    valid: FATTR_SIZE,
    size,
    byOpen,
  });

  test('the present size and O_TRUNC are accepted and change nothing', () => {
    const { tree, node } = oneFile();
    expect(tree.setAttributes(node, resize(2n ** 62n, false), 1)).toBe(0);
    expect(tree.setAttributes(node, resize(0n, true), 1)).toBe(0);
    expect(node.size).toBe(2n ** 62n);
  });

  test('any other size is refused', () => {
    const { tree, node } = oneFile();
    expect(tree.setAttributes(node, resize(0n, false), 1)).toBe(EPERM);
    expect(tree.setAttributes(node, resize(2n ** 62n - 1n, true), 1)).toBe(EPERM);
  });

  test('mode and times are kept', () => {
    const { tree, node } = oneFile();
    tree.setAttributes(
      node,
      { ...NOTHING, valid: FATTR_MODE | FATTR_MTIME, mode: 0o100600, mtime: 77 },
      9000,
    );
    expect(node).toMatchObject({ mode: 0o100600, mtime: 77, ctime: 9000, atime: 5000 });
    tree.setAttributes(node, { ...NOTHING, valid: FATTR_MTIME | FATTR_MTIME_NOW, mtime: 1 }, 9500);
    expect(node.mtime).toBe(9500);
  });
});

describe('access', () => {
  test('writing to a read-only file is EROFS for everybody', () => {
    const { tree, node } = oneFile(true);
    expect(tree.open(node, 0)).toBe(0);
    expect(tree.open(node, 1)).toBe(EROFS);
    expect(tree.open(node, 2)).toBe(EROFS);
    expect(tree.access(node, 2, 0, 0)).toBe(EROFS);
  });

  test('the bits count for owner, group and others', () => {
    const { tree, node } = oneFile();
    expect(tree.access(node, 2, 1000, 5)).toBe(0);
    expect(tree.access(node, 2, 5, 100)).toBe(EACCES);
    expect(tree.access(node, 4, 5, 5)).toBe(0);
    expect(tree.access(node, 2, 5, 5)).toBe(EACCES);
  });
});
