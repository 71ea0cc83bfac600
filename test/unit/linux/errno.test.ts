import { expect, it } from 'vitest';
import { EAGAIN, EOPNOTSUPP, ESHUTDOWN } from '../../../src/constants/errno.js';
import { errnoName } from '../../../src/constants/errno-names.js';
import { errnoText, SystemError } from '../../../src/linux/errno.js';
import { duplicate } from '../../../src/linux/socket.js';

it.each([
  [1, 'EPERM', 'Operation not permitted'],
  [5, 'EIO', 'Input/output error'],
  [EAGAIN, 'EAGAIN', 'Resource temporarily unavailable'],
  [28, 'ENOSPC', 'No space left on device'],
  [EOPNOTSUPP, 'EOPNOTSUPP', 'Operation not supported'],
  [107, 'ENOTCONN', 'Transport endpoint is not connected'],
  [ESHUTDOWN, 'ESHUTDOWN', 'Cannot send after transport endpoint shutdown'],
])('errno: %i is %s', (number, name, text) => {
  expect(errnoName(number)).toBe(name);
  expect(errnoText(number)).toBe(text);
});

it('errno: shows an unknown number as a number', () => {
  expect(errnoName(4000)).toBe('errno 4000');
});

it('errno: an error has the failed call and its errno', () => {
  let thrown: unknown;
  try {
    duplicate(-1);
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(SystemError);
  expect(thrown).toMatchObject({ errno: 9, syscall: 'fcntl', message: 'fcntl: Bad file descriptor' });
});
