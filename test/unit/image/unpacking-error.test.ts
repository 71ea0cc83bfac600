import { expect, it } from 'vitest';
import { ImageError } from '../../../src/image/errors.js';
import { unpackingError } from '../../../src/image/unpacking-error.js';
import { NbdServerError } from '../../../src/nbd/errors.js';
import { TransportError } from '../../../src/transport/errors.js';

it.each<[string, Error, string]>([
  [
    'a damaged file',
    new ImageError('nbdfuse-chunks: the file is damaged at byte 4000'),
    'cannot decode a.xz (xz): the file is damaged at byte 4000: get it again, and check it with xz -t',
  ],
  [
    'a line about the reads of a mount',
    new ImageError('nbdfuse: /here/a.xz: the file ends too early: reads of the image from byte 53 fail'),
    'cannot decode a.xz (xz): the file ends too early: get it again, and check it with xz -t',
  ],
  [
    'a failed read',
    new NbdServerError('the server failed a read: EIO'),
    'cannot decode a.xz (xz): the server failed a read: EIO: get it again, and check it with xz -t',
  ],
  [
    'a missing library',
    new ImageError('nbdfuse: the library liblzma.so.5 is missing: apt-get install liblzma5'),
    'cannot decode a.xz (xz): the library liblzma.so.5 is missing: apt-get install liblzma5',
  ],
  [
    'a large window',
    new ImageError('the zstd data cannot be decoded: Frame requires too much memory for decoding'),
    'cannot decode a.xz (xz): the zstd data cannot be decoded: Frame requires too much memory for decoding: unpack it first (zstd -d --long=31)',
  ],
  [
    'the end of the chunk server',
    new TransportError('nbdfuse-chunks exited with status 1: nbdfuse: a.xz: truncated at byte 100'),
    'cannot decode a.xz (xz): a.xz: truncated at byte 100: get it again, and check it with xz -t',
  ],
  ['a lost server', new TransportError('nbdkit was killed by SIGKILL'), 'nbdkit was killed by SIGKILL'],
  ['another error', new Error('stopped by SIGTERM'), 'stopped by SIGTERM'],
])('unpacking errors: %s', (_, error, message) => {
  expect(unpackingError({ name: 'a.xz', source: '/here/a.xz', compression: 'xz' }, error)).toHaveProperty(
    'message',
    message,
  );
});
