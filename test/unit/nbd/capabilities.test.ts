import { describe, expect, it } from 'vitest';
import { capabilitiesOf, durableFlags, needsFlush } from '../../../src/nbd/capabilities.js';

const contexts = (...names: string[]) => names.map((name, id) => ({ id, name }));

/** The names of the capabilities that an export has. */
function names(flags: number, ...metaContexts: string[]): string[] {
  const all = Object.entries(capabilitiesOf({ flags, metaContexts: contexts(...metaContexts) }));
  return all.filter(([, has]) => has).map(([name]) => name);
}

describe('capabilities', () => {
  it.each([
    [1, 'readOnly'],
    [2, 'flush'],
    [3, 'fua'],
    [4, 'rotational'],
    [5, 'trim'],
    [6, 'zero'],
    [7, 'df'],
    [8, 'multiConn'],
    [10, 'cache'],
    [11, 'fastZero'],
    [12, 'statusPayload'],
  ])('bit %i of the transmission flags is %s ("Transmission flags")', (bit, name) => {
    expect(names(1 << bit)).toEqual([name]);
  });

  it('block status needs a metadata context, and holes need base:allocation', () => {
    expect(names(0)).toEqual([]);
    expect(names(0, 'qemu:allocation-depth')).toEqual(['blockStatus']);
    expect(names(0, 'qemu:allocation-depth', 'base:allocation')).toEqual(['blockStatus', 'allocation']);
  });

  it.each([
    [true, true, 1, false],
    [true, false, 1, false],
    [false, true, 0, true],
    [false, false, 0, false],
  ])(
    'with FUA %s and FLUSH %s a durable change has flags %i, and a FLUSH follows: %s',
    (fua, flush, flags, follows) => {
      expect(durableFlags({ fua })).toBe(flags);
      expect(needsFlush({ fua, flush })).toBe(follows);
    },
  );
});
