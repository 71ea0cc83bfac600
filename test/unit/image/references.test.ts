// The files that headers name. The headers are written out by hand from the formats' documents.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HEAD_LENGTH } from '../../../src/image/reference.js';
import { referencesOf } from '../../../src/image/references.js';

/** A qcow2 of version 3 with header extensions and a backing file name. */
function qcow2(
  backing: string,
  extensions: readonly (readonly [number, string])[],
  dataFile = false,
): Buffer {
  const head = Buffer.alloc(4096);
  head.write('QFI\xfb', 0, 'latin1');
  head.writeUInt32BE(3, 4);
  head.writeUInt32BE(16, 20); // cluster bits
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

describe('qcow2 header', () => {
  it('may name no file', () => {
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

  it('with a name out of reach has an unreadable reference', () => {
    const head = qcow2('x', []);
    head.writeBigUInt64BE(1n << 40n, 8);
    expect(referencesOf('qcow2', head)).toEqual([{ role: 'backing file', name: '', format: undefined }]);
  });

  it('with a name partly in reach, or not UTF-8, has an unreadable reference', () => {
    const head = Buffer.alloc(HEAD_LENGTH);
    qcow2('', [[FORMAT, 'raw']]).copy(head);
    head.write('file', HEAD_LENGTH - 4); // and after that, ':/etc/shadow'
    head.writeBigUInt64BE(BigInt(HEAD_LENGTH - 4), 8);
    head.writeUInt32BE(16, 16);
    expect(referencesOf('qcow2', head)).toEqual([{ role: 'backing file', name: '', format: 'raw' }]);
    const latin = qcow2('base', [[FORMAT, 'raw']]);
    latin.writeUInt8(0xff, latin.indexOf('base'));
    expect(referencesOf('qcow2', latin)).toMatchObject([{ name: '' }]);
  });

  it('ends texts at a NUL, as QEMU does', () => {
    const head = qcow2('base.img\0x', [[FORMAT, 'qcow2\0']]);
    expect(referencesOf('qcow2', head)).toMatchObject([{ name: 'base.img', format: 'qcow2' }]);
  });

  it('with extensions beyond reach records nothing, since a later one may differ', () => {
    const head = Buffer.alloc(HEAD_LENGTH);
    const padding: [number, string] = [BITMAPS, ''];
    qcow2('x', [[FORMAT, 'raw'], [DATA_FILE, 'data.raw'], padding], true).copy(head);
    head.writeUInt32BE(21, 20); // clusters of 2 MiB
    head.writeBigUInt64BE(100_000n, 8);
    head.writeUInt32BE(80_000, head.indexOf('23852875', 0, 'hex') + 4);
    expect(referencesOf('qcow2', head)).toEqual([
      { role: 'backing file', name: '', format: undefined },
      { role: 'data file', name: '', format: 'raw' },
    ]);
  });
});

describe('qed header', () => {
  it('names a backing file, which is raw if QEMU must not probe it', () => {
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

describe('vhd header', () => {
  it('of a differencing disk names a parent, which QEMU would leave out', () => {
    const head = Buffer.alloc(512);
    head.write('conectix');
    head.writeUInt32BE(3, 60);
    expect(referencesOf('vpc', head)).toEqual([]);
    head.writeUInt32BE(4, 60);
    for (const format of ['vpc', 'vhd']) {
      expect(referencesOf(format, head)).toMatchObject([{ role: 'parent', name: '' }]);
    }
  });
});

it('image references: no header makes the search throw or run without bound', () => {
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
