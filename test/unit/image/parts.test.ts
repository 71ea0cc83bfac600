import { describe, expect, it } from 'vitest';
import { partName, partsAmong } from '../../../src/image/parts.js';

describe('name of a part', () => {
  it.each([
    ['disk.img.001', 'disk.img', 1],
    ['disk.000', 'disk', 0],
    ['disk.0012', 'disk', 12],
    ['disk.img.01', 'disk.img', 1],
    ['disk.img.part3', 'disk.img', 3],
    ['disk.img.part03', 'disk.img', 3],
    ['disk.img.ab', 'disk.img', 1],
    ['disk.img.ba', 'disk.img', 26],
    ['disk.img.aab', 'disk.img', 1],
  ])('%s', (name, whole, index) => {
    expect(partName(name)).toMatchObject({ whole, index });
  });

  it.each(['disk', 'disk.1', '.001', 'disk.img', 'vm-01', 'disk.qcow2', 'disk.12345'])(
    '%s is no part, or one that begins with an odd name',
    (name) => {
      const part = partName(name);
      if (part !== undefined) expect(part.firsts).toEqual(['aaa']);
    },
  );
});

it('parts: may be old copies if their numbers have two digits', () => {
  const doubtful = ['a.01', 'a.001', 'a.part01', 'a.aa'].map((name) => partName(name)?.isDoubtful);
  expect(doubtful).toEqual([true, false, false, false]);
});

it('parts: have one kind of suffix', () => {
  const [first] = ['a.001', 'a.aa'].map((name) => partName(name));
  if (first === undefined) throw new Error('a.001 is a part');
  const names = ['a.001', 'a.002', 'a.0003', 'a.part4', 'a.aa', 'b.005', 'a.010'];
  expect([...partsAmong(names, first)]).toEqual([
    [1, 'a.001'],
    [2, 'a.002'],
    [10, 'a.010'],
  ]);
});
