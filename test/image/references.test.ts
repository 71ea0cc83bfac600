// The files that headers name. The headers are written out by hand from the formats' documents.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HEAD_LENGTH, referencesOf } from '../../src/image/references.js';

/** A qcow2 of version 3 with header extensions and a backing file name. */
function qcow2(
  backing: string,
  extensions: readonly (readonly [number, string])[],
  dataFile = false,
): Buffer {
  const head = Buffer.alloc(4096);
  head.write('QFI\xfb', 0, 'latin1');
  head.writeUInt32BE(3, 4);
  head.writeUInt32BE(dataFile ? 4 : 0, 76); // incompatible features: external data file
  head.writeUInt32BE(104, 100); // header length
  let at = 104;
  for (const [type, text] of extensions) {
    head.writeUInt32BE(type, at);
    head.writeUInt32BE(text.length, at + 4);
    head.write(text, at + 8);
    at += 8 + Math.ceil(text.length / 8) * 8;
  }
  if (backing !== '') {
    head.writeBigUInt64BE(BigInt(at + 8), 8);
    head.writeUInt32BE(backing.length, 16);
    head.write(backing, at + 8);
  }
  return head;
}

const FORMAT = 0xe2792aca;
const DATA_FILE = 0x44415441;
const BITMAPS = 0x23852875;

describe('a qcow2', () => {
  it('may name nothing', () => {
    expect(referencesOf('qcow2', qcow2('', [[BITMAPS, 'x'.repeat(24)]]))).toEqual([]);
  });

  it('names a backing file, and its format where that is recorded', () => {
    const [known] = referencesOf(
      'qcow2',
      qcow2('base.img', [
        [BITMAPS, '12345'],
        [FORMAT, 'raw'],
      ]),
    );
    expect(known).toEqual({ role: 'backing file', name: 'base.img', format: 'raw' });
    const [unknown] = referencesOf('qcow2', qcow2('/etc/shadow', []));
    expect(unknown).toEqual({ role: 'backing file', name: '/etc/shadow', format: undefined });
  });

  it('names an external data file', () => {
    expect(referencesOf('qcow2', qcow2('', [[DATA_FILE, '/dev/sda']], true))).toEqual([
      { role: 'data file', name: '/dev/sda', format: 'raw' },
    ]);
  });

  it('whose name lies out of reach has one that cannot be read', () => {
    const head = qcow2('x', []);
    head.writeBigUInt64BE(1n << 40n, 8);
    expect(referencesOf('qcow2', head)).toEqual([{ role: 'backing file', name: '', format: undefined }]);
  });
});

describe('a qed', () => {
  it('names a backing file, which is raw when it must not be probed', () => {
    const head = Buffer.alloc(512);
    head.write('QED\0');
    head.writeUInt32LE(1 | 4, 16); // features: backing file, no probe
    head.writeUInt32LE(100, 56);
    head.writeUInt32LE(8, 60);
    head.write('base.raw', 100);
    expect(referencesOf('qed', head)).toEqual([{ role: 'backing file', name: 'base.raw', format: 'raw' }]);
    head.writeUInt32LE(1, 16);
    expect(referencesOf('qed', head)[0]).toMatchObject({ format: undefined });
    head.writeUInt32LE(0, 16);
    expect(referencesOf('qed', head)).toEqual([]);
  });
});

describe('a vmdk', () => {
  const TEXT = '# Disk DescriptorFile\nversion=1\n';

  it.each([
    ['RW 4 FLAT "flat.vmdk" 0\n', ['flat.vmdk']],
    ['  RW\t4 SPARSE "a.vmdk"\nRW 4 FLAT "/etc/shadow" 0\n', ['a.vmdk', '/etc/shadow']],
    ['RW 4 FLAT "/etc/shadow', ['/etc/shadow']],
    ['RW 4 ZERO\n', []],
  ])('that is a descriptor names its extents: %j', (lines, names) => {
    expect(
      referencesOf('vmdk', Buffer.from(`${TEXT}CID=12345678\n${lines}`)).map(({ name }) => name),
    ).toEqual(names);
  });

  it('names its parent, wherever in the text', () => {
    const text = `${TEXT}x parentFileNameHint="../base.vmdk"\n`;
    expect(referencesOf('vmdk', Buffer.from(text))).toEqual([
      { role: 'parent', name: '../base.vmdk', format: 'vmdk' },
    ]);
  });

  function sparse(capacity: bigint, descriptor: string): Buffer {
    const head = Buffer.alloc(2048);
    head.write('KDMV');
    head.writeBigUInt64LE(capacity, 12);
    head.writeBigUInt64LE(1n, 28); // descriptor at sector 1
    head.writeBigUInt64LE(2n, 36); // two sectors
    head.write(descriptor, 512);
    return head;
  }

  it('that is sparse names its parent; its extents only when it has no room of its own', () => {
    const text = `${TEXT}RW 4 SPARSE "disk.vmdk"\n`;
    expect(referencesOf('vmdk', sparse(8n, text))).toEqual([]);
    expect(referencesOf('vmdk', sparse(0n, text))).toHaveLength(1);
    expect(referencesOf('vmdk', sparse(8n, `${text}parentFileNameHint="b"`))).toHaveLength(1);
  });

  it('whose descriptor is out of reach names what cannot be read', () => {
    const far = sparse(8n, TEXT);
    far.writeBigUInt64LE(1n << 30n, 28);
    const long = Buffer.alloc(HEAD_LENGTH, TEXT);
    for (const head of [far, long]) {
      expect(referencesOf('vmdk', head)).toEqual([{ role: 'parent', name: '', format: 'vmdk' }]);
    }
  });
});

it('nothing in a header makes the search throw or return without bound', () => {
  const magic = fc.constantFrom('QFI\xfb\0\0\0\x03', 'QED\0', 'KDMV', '# Disk DescriptorFile');
  fc.assert(
    fc.property(magic, fc.uint8Array({ maxLength: 2000 }), (start, rest) => {
      const head = Buffer.concat([Buffer.from(start, 'latin1'), rest]);
      for (const format of ['qcow2', 'qcow', 'qed', 'vmdk', 'raw']) {
        for (const { name } of referencesOf(format, head)) expect(name.length).toBeLessThan(3000);
      }
    }),
  );
});
