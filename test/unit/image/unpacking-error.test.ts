import { expect, it } from 'vitest';
import { ImageError } from '../../../src/image/errors.js';
import { unpackingError } from '../../../src/image/unpacking-error.js';
import { NbdError } from '../../../src/nbd/errors.js';

it.each<[string, Error, string]>([
  [
    'a long block',
    new ImageError('largest block in xz file = 629145600 (bytes)'),
    'a.xz has an xz block of 600 MiB, and nbdkit unpacks at most 512 MiB at once: ' +
      'recompress it in blocks, with xz --block-size=16MiB, or unpack it first (xz -d)',
  ],
  [
    'a damaged file',
    new ImageError('nbdkit: file[2]: error: xz: invalid stream footer (error 7)'),
    'nbdkit cannot unpack a.xz (xz: invalid stream footer (error 7)): get it again, and check it with xz -t',
  ],
  [
    'the end of nbdkit',
    new NbdError('the connection to the server was lost'),
    'nbdkit failed while it unpacked a.xz, which may have stream padding: ' +
      'recompress it in blocks, with xz --block-size=16MiB',
  ],
  ['another error', new Error('stopped by SIGTERM'), 'stopped by SIGTERM'],
])('unpacking errors: %s', (_, error, message) => {
  expect(unpackingError('a.xz', 'xz', error)).toHaveProperty('message', message);
});
