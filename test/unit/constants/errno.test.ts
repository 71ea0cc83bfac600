import { expect, it } from 'vitest';
import * as errnos from '../../../src/constants/errno.js';
import { runProgram } from '../../support/run/command.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('python3');

it('errno constants: match those of the system', async () => {
  const code = `import errno, json; print(json.dumps({n: getattr(errno, n) for n in ${JSON.stringify(Object.keys(errnos))}}))`;
  expect(JSON.parse(await runProgram('python3', '-c', code))).toEqual({ ...errnos });
});
