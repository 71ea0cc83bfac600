import { expect, it } from 'vitest';
import { ImageError, ServerLineError } from '../../../src/image/errors.js';
import { unpackingError } from '../../../src/image/unpacking-error.js';
import { NbdServerError } from '../../../src/nbd/errors.js';
import { TransportError } from '../../../src/transport/errors.js';

it.each<[string, Error, string]>([
  [
    'a damaged file',
    new ServerLineError('nbdfuse-chunks: the file is damaged at byte 4000'),
    'cannot decode a.xz (xz): the file is damaged at byte 4000: get it again, and check it with xz -t',
  ],
  [
    'a line about the reads of a mount',
    new ServerLineError('nbdfuse: /here/a.xz: the file ends too early: reads of the image from byte 53 fail'),
    'cannot decode a.xz (xz): the file ends too early: get it again, and check it with xz -t',
  ],
  [
    'a failed read',
    new NbdServerError('the server failed a read: EIO'),
    'cannot decode a.xz (xz): the server failed a read: EIO: get it again, and check it with xz -t',
  ],
  [
    'a missing library',
    new ServerLineError('nbdfuse: the library liblzma.so.5 is missing: apt-get install liblzma5'),
    'cannot decode a.xz (xz): the library liblzma.so.5 is missing: apt-get install liblzma5',
  ],
  [
    'a large window',
    new ServerLineError('the zstd data cannot be decoded: Frame requires too much memory for decoding'),
    'cannot decode a.xz (xz): the zstd data cannot be decoded: Frame requires too much memory for decoding: unpack it first (zstd -d --long=31)',
  ],
  [
    'the end of the chunk server',
    new TransportError('nbdfuse-chunks exited with status 1: nbdfuse: a.xz: truncated at byte 100'),
    'cannot decode a.xz (xz): a.xz: truncated at byte 100: get it again, and check it with xz -t',
  ],
  [
    'a decoder that needs much memory, in the reply of the server',
    new NbdServerError('NBD_CMD_READ of 65536 bytes at 0 failed: NBD_EIO; the server says: the xz data …', {
      serverText: 'the xz data needs 1537 MiB of memory, more than 1088 MiB',
    }),
    'cannot decode a.xz (xz): the xz data needs 1537 MiB of memory, more than 1088 MiB: unpack it first (xz -d)',
  ],
  [
    'a filter of a newer xz',
    new ServerLineError('nbdfuse: /here/a.xz: a filter of the xz data is not supported'),
    'cannot decode a.xz (xz): a filter of the xz data is not supported: unpack it first, with a newer xz (xz -d)',
  ],
  [
    'a decoded file that has its own next step',
    new ImageError('a.tar.xz should be a tar archive: use --format=raw.xz'),
    'a.tar.xz should be a tar archive: use --format=raw.xz',
  ],
  ['a lost server', new TransportError('nbdkit was killed by SIGKILL'), 'nbdkit was killed by SIGKILL'],
  ['another error', new Error('stopped by SIGTERM'), 'stopped by SIGTERM'],
])('unpacking errors: %s', (_, error, message) => {
  expect(unpackingError({ name: 'a.xz', source: '/here/a.xz', compression: 'xz' }, error)).toHaveProperty(
    'message',
    message,
  );
});
