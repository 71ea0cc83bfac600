// Fields of the status under their former and their present names.

import { describe, expect, it } from 'vitest';
import { parseStatus } from '../../../../src/cli/commands/status-shape.js';
import { withFormerNames } from '../../../../src/worker/contract/former-names.js';
import { attributesOf } from '../../../../src/worker/fuse/xattr.js';
import { STATUS } from '../../cli/status-sample.js';

const { canMultiConn, writeZeroes, bytesReceived, bytesSent, ...others } = STATUS;
const { unflushedBytes, blockedByOverlap, unresolvedWrites, retriedRequests, ...unchanged } = others;
const { unused, ...readAhead } = STATUS.readAhead;

/** The same status from an older version. */
const OLDER = {
  ...unchanged,
  multiConn: canMultiConn,
  zeroes: writeZeroes,
  received: bytesReceived,
  sent: bytesSent,
  unflushed: unflushedBytes,
  waitingForOthers: blockedByOverlap,
  unproven: unresolvedWrites,
  sentAgain: retriedRequests,
  readAhead: { ...readAhead, wasted: unused },
};

describe('status names', () => {
  it('programs find each renamed field under both names, with the same value', () => {
    const both = { ...OLDER, ...STATUS, readAhead: { ...OLDER.readAhead, ...STATUS.readAhead } };
    expect(withFormerNames(STATUS)).toEqual(both);
  });

  it('attributes have both names, with dashes', () => {
    const attributes = attributesOf({ ...STATUS, unflushedBytes: 4096, blockedByOverlap: 7 });
    expect(attributes.get('unflushed-bytes')).toBe('4096');
    expect(attributes.get('unflushed')).toBe('4096');
    expect(attributes.get('blocked-by-overlap')).toBe('7');
    expect(attributes.get('waiting-for-others')).toBe('7');
    expect(JSON.parse(attributes.get('status') ?? '')).toMatchObject({ sent: 99, bytesSent: 99 });
  });

  it('a status of an older version gets the present names', () => {
    expect(parseStatus(JSON.stringify(OLDER))).toMatchObject(STATUS);
    const { waitingForOthers, unproven, ...oldest } = OLDER;
    expect([waitingForOthers, unproven]).toEqual([0, 0]);
    expect(parseStatus(JSON.stringify(oldest))).toMatchObject(STATUS);
  });

  it('a status whose renamed field is missing under both names is refused', () => {
    const { sent, ...rest } = OLDER;
    expect(sent).toBe(99);
    expect(parseStatus(JSON.stringify(rest))).toBeUndefined();
    expect(parseStatus(JSON.stringify({ ...OLDER, readAhead: null }))).toBeUndefined();
  });
});
