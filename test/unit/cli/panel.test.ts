// The screen of --watch, and the emphasis of text.

import { describe, expect, it } from 'vitest';
import { durationText, panel, sparkline } from '../../../src/cli/commands/panel.js';
import { PLAIN, styleFor } from '../../../src/session/style.js';
import type { Status } from '../../../src/worker/contract/status.js';
import { STATUS } from './status-sample.js';

const TERMINAL = { isTTY: true };

describe('--watch screen', () => {
  const earlier = { ...STATUS, reads: { ...STATUS.reads, count: 1, bytes: 0 }, bytesReceived: 0 };
  const options = { style: PLAIN, columns: 80, history: [0, 50, 100], seconds: 2 };
  const text = panel({ path: 'a', status: earlier }, { path: 'a', status: STATUS }, options);

  it('shows rates, times, pending requests and losses', () => {
    expect(text).toMatch(/^a {2}2 connections with TLS {2}up /);
    expect(text).toMatch(/\nreads +1 +6 KiB +/);
    expect(text).toContain(' in flight, ');
    expect(text).toContain(`losses   1 connection, 4 requests sent again`);
    expect(text).toContain('traffic   ▄█\n');
  });

  it('fits into 80 columns', () => {
    for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
  });

  it('shows that there is no connection', () => {
    const status = { ...STATUS, connections: [], state: 'reconnecting' };
    expect(panel({ path: 'a', status }, { path: 'a', status }, options)).toMatch(/^a {2}reconnecting/);
  });

  it('has a line for each wait, while there are any', () => {
    expect(text).not.toContain('waiting');
    const shown = (part: Partial<Status>): string => {
      const status = { ...STATUS, ...part };
      return panel({ path: 'a', status }, { path: 'a', status }, options);
    };
    const start = '9223372036854710272';
    const wait = { reason: 'proof', count: 1000, start, end: '9223372036854775807', secondsLeft: 30 };
    const most = shown({ waits: [wait], unresolvedWrites: 1000 });
    expect(most).toContain(`\nwaiting  1000 requests for proof about a lost write, bytes ${start} t`);
    expect(most).toContain('\nlost     1000 writes on lost connections, which the server may still make\n');
    for (const line of most.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
  });

  it('draws bars up to the largest number, and times in short form', () => {
    expect(sparkline([0, 1, 4, 8])).toBe(' ▁▄█');
    expect(sparkline([0, 0])).toBe('  ');
    expect([0, 59, 61, 3600, 90_061].map(durationText)).toEqual([
      '0s',
      '59s',
      '1m 1s',
      '1h 0m 0s',
      '25h 1m 1s',
    ]);
  });
});

describe('terminal emphasis', () => {
  const isPlain = (output: { isTTY?: boolean }, environment: NodeJS.ProcessEnv): boolean =>
    styleFor(output, environment).bold('x') === 'x';

  it('is for terminals, and off with NO_COLOR or a dumb terminal', () => {
    expect(isPlain(TERMINAL, { TERM: 'xterm' })).toBe(false);
    expect(isPlain(TERMINAL, { TERM: 'xterm', NO_COLOR: '' })).toBe(false);
    expect(isPlain(TERMINAL, { TERM: 'xterm', NO_COLOR: '1' })).toBe(true);
    expect(isPlain(TERMINAL, { TERM: 'dumb' })).toBe(true);
    expect(isPlain({}, { TERM: 'xterm' })).toBe(true);
  });
});
