import { mkdirSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { explainedOrder } from '../../../src/cli/swapped.js';
import { createScope } from '../../support/cleanup.js';

it('command line: MOUNTPOINT and IMAGE in the wrong order get their own message', () => {
  const scope = createScope();
  const [disk, empty, dir] = [scope.path('disk.raw'), scope.path('empty'), scope.path('dir')];
  writeFileSync(disk, 'bytes');
  writeFileSync(empty, '');
  mkdirSync(dir);
  const error = new Error('first');
  expect(explainedOrder(error, dir, disk)).toMatchObject({
    message: `${dir} is a directory, and ${disk} is a file: MOUNTPOINT comes first: nbdfuse ${dir} ${disk}`,
  });
  expect(explainedOrder(error, `${dir}/new`, disk)).toMatchObject({
    message: `there is no file ${dir}/new, and ${disk} is a file: MOUNTPOINT comes first: nbdfuse ${dir}/new ${disk}`,
  });
  // A mountpoint is often an empty file, and an image may be missing or on the network.
  expect(explainedOrder(error, dir, empty)).toBe(error);
  expect(explainedOrder(error, `${dir}/new`, dir)).toBe(error);
  expect(explainedOrder(error, disk, disk)).toBe(error);
  expect(explainedOrder(error, 'https://host/disk', disk)).toBe(error);
});
