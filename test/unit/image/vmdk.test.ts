// References of a VMDK to other files, and the descriptor that QEMU gets instead.

import { describe, expect, it } from 'vitest';
import { HEAD_LENGTH } from '../../../src/image/reference.js';
import {
  descriptorWith,
  flatExtent,
  isEmbeddedDescriptor,
  parseVmdk,
  type Vmdk,
  vmdkReferences,
} from '../../../src/image/vmdk.js';

const TEXT = '# Disk DescriptorFile\nversion=1\n';
const named = (head: Buffer): readonly string[] => vmdkReferences(head).map(({ name }) => name);

function descriptor(text: string): Extract<Vmdk, { kind: 'descriptor' }> {
  const vmdk = parseVmdk(Buffer.from(TEXT + text));
  if (vmdk.kind !== 'descriptor') throw new Error('no descriptor');
  return vmdk;
}

function sparse(capacity: bigint, text: string): Buffer {
  const head = Buffer.alloc(2048);
  head.write('KDMV');
  head.writeBigUInt64LE(capacity, 12);
  head.writeBigUInt64LE(1n, 28); // descriptor at sector 1
  head.writeBigUInt64LE(2n, 36); // two sectors
  head.write(text, 512);
  return head;
}

describe('VMDK descriptor', () => {
  it.each([
    ['RW 4 FLAT "flat.vmdk" 0\n', ['flat.vmdk']],
    ['  RW\t4 SPARSE "a.vmdk"\r\nRW 4 FLAT "/etc/shadow" 0\n', ['a.vmdk', '/etc/shadow']],
  ])('names its extents: %j', (lines, names) => {
    expect(named(Buffer.from(`${TEXT}CID=12345678\n${lines}`))).toEqual(names);
  });

  it.each([
    'RW 4 FLAT "/etc/shadow',
    'RW +4FLAT"/etc/shadow" 0',
    'RW 4 VMFSSPARSE"/etc/shadow"',
    'RW 4 ZERO',
    'RDONLY 4 FLAT "a" 0',
    'RW 4 FLAT "a" -1',
    'RW 4 FLAT "a" 0 "b"',
  ])('has an unreadable extent for a malformed line: %j', (line) => {
    expect(named(Buffer.from(`${TEXT}${line}\n`))).toEqual(['']);
  });

  it('has an unreadable extent for a name that is not UTF-8', () => {
    const head = Buffer.from(`${TEXT}RW 4 FLAT "s\xe9cret" 0\n`, 'latin1');
    expect(named(head)).toEqual(['']);
    expect(named(Buffer.from(`${TEXT}RW 4 FLAT "sécret" 0\n`))).toEqual(['sécret']);
  });

  it('names its parent anywhere in the text', () => {
    const text = Buffer.from(`${TEXT}x parentFileNameHint="../base.vmdk"\n`);
    expect(vmdkReferences(text)).toEqual([{ role: 'parent', name: '../base.vmdk', format: 'vmdk' }]);
  });

  it('beyond reach has an unreadable parent', () => {
    expect(vmdkReferences(Buffer.alloc(HEAD_LENGTH, TEXT))).toMatchObject([{ role: 'parent', name: '' }]);
  });

  it('with one extent of plain bytes needs no driver of VMDK', () => {
    expect(flatExtent(descriptor('RW 8 FLAT "a" 2\n'))).toMatchObject({ sectors: 8n, name: 'a', offset: 2n });
    expect(flatExtent(descriptor('RW 8 VMFS "a"\n'))).toMatchObject({ sectors: 8n, offset: 0n });
    expect(flatExtent(descriptor('RW 8 SPARSE "a"\n'))).toBeUndefined();
    expect(flatExtent(descriptor('RW 8 FLAT "a" 0\nRW 8 FLAT "b" 0\n'))).toBeUndefined();
  });

  it('has a rewritten form with absolute names, and nothing else of the original', () => {
    const text =
      'CID=12ab\nparentCID=ffffffff\ncreateType="twoGbMaxExtentFlat"\nx="/etc/shadow"\nRW 8 FLAT "a" 2\nRW 9 SPARSE "b"\n';
    expect(descriptorWith(descriptor(text), ['/d/a', '/d/b'])).toBe(
      '# Disk DescriptorFile\nversion=1\nCID=12ab\nparentCID=ffffffff\ncreateType="twoGbMaxExtentFlat"\n' +
        'RW 8 FLAT "/d/a" 2\nRW 9 SPARSE "/d/b"\n',
    );
  });
});

describe('VMDK sparse file', () => {
  it('names its parent where QEMU looks for it, whatever the header says', () => {
    expect(vmdkReferences(sparse(8n, `${TEXT}RW 4 SPARSE "disk.vmdk"\n`))).toEqual([]);
    const head = sparse(8n, `${TEXT}parentFileNameHint="/etc/shadow"`);
    head.writeBigUInt64LE(100n, 28);
    expect(vmdkReferences(head)).toMatchObject([{ role: 'parent', name: '/etc/shadow' }]);
  });

  it('without room of its own is a descriptor, which is not read', () => {
    expect(isEmbeddedDescriptor(sparse(0n, TEXT))).toBe(true);
    expect(isEmbeddedDescriptor(sparse(8n, TEXT))).toBe(false);
    expect(vmdkReferences(sparse(0n, TEXT))).toMatchObject([{ role: 'extent', name: '' }]);
  });
});
