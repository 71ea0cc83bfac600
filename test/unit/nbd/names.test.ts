// Numbers get the names of the spec, and errors the errno of Linux.
import { describe, expect, it } from 'vitest';
import { errnoFromNbd, NbdError, NbdProtocolError, NbdServerError } from '../../../src/nbd/errors.js';
import {
  commandFlagNames,
  commandName,
  errorName,
  optionName,
  optionReplyName,
  transmissionFlagNames,
} from '../../../src/nbd/names.js';

describe('NBD names', () => {
  it('are those of proto.md', () => {
    expect(optionName(7)).toBe('NBD_OPT_GO');
    expect(optionReplyName(0x80000006)).toBe('NBD_REP_ERR_UNKNOWN');
    expect(commandName(6)).toBe('NBD_CMD_WRITE_ZEROES');
    expect(errorName(28)).toBe('NBD_ENOSPC');
    expect(transmissionFlagNames(0x0105)).toEqual([
      'NBD_FLAG_HAS_FLAGS',
      'NBD_FLAG_SEND_FLUSH',
      'NBD_FLAG_CAN_MULTI_CONN',
    ]);
    expect(commandFlagNames(0x0011)).toEqual(['NBD_CMD_FLAG_FUA', 'NBD_CMD_FLAG_FAST_ZERO']);
  });

  it('show unknown numbers in hexadecimal', () => {
    expect([optionName(99), optionReplyName(0x80001234), commandName(255), errorName(7)]).toEqual([
      '0x63',
      '0x80001234',
      '0xff',
      '0x7',
    ]);
    expect(transmissionFlagNames(0xc000)).toEqual(['0x4000', '0x8000']);
  });
});

describe('NBD errors', () => {
  it.each([
    [0, 0],
    [1, 1],
    [5, 5],
    [12, 12],
    [22, 22],
    [28, 28],
    [75, 75],
    [95, 95],
    [108, 108],
  ])('NBD error %i is errno %i', (error, errno) => {
    expect(errnoFromNbd(error)).toBe(errno);
  });

  it.each([2, 116, 0x7fffffff, 0xffffffff])('%i counts as NBD_EINVAL ("Error values")', (error) => {
    expect(errnoFromNbd(error)).toBe(22);
  });

  it('are of three kinds, each an NbdError with a fitting errno', () => {
    expect(new NbdError('x')).toMatchObject({ name: 'NbdError', errno: undefined });
    expect(new NbdProtocolError('x')).toMatchObject({ name: 'NbdProtocolError', errno: 71 });
    expect(new NbdServerError('x')).toMatchObject({ name: 'NbdServerError', errno: 5, serverText: '' });
    expect(new NbdServerError('x', { errno: 28 })).toBeInstanceOf(NbdError);
  });
});
