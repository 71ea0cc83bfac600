import { describe, expect, it } from 'vitest';
import { createReport } from '../../src/cli/report.js';

function record(verbose: boolean) {
  const written: string[] = [];
  return { written, report: createReport(verbose, (text) => written.push(text)) };
}

describe('a message', () => {
  it('is one line after the name of the program', () => {
    const { written, report } = record(false);
    report.line('dir: not found');
    expect(written).toEqual(['nbdfuse: dir: not found\n']);
  });

  it('shows control characters as escapes', () => {
    const { written, report } = record(false);
    report.line('the server said \x1b[2Jhello\nnbdfuse: all is well');
    expect(written).toEqual(['nbdfuse: the server said \\x1b[2Jhello\\nnbdfuse: all is well\n']);
  });

  it('is cut at 4096 bytes', () => {
    const { written, report } = record(false);
    report.line('x'.repeat(10_000));
    expect(written[0]?.length).toBe('nbdfuse: '.length + 4096 + '…\n'.length);
  });

  it('about details appears only when verbose', () => {
    for (const verbose of [false, true]) {
      const { written, report } = record(verbose);
      report.detail('connecting');
      expect(written).toEqual(verbose ? ['nbdfuse: connecting\n'] : []);
    }
  });

  it('about an error has no stack', () => {
    const { written, report } = record(false);
    report.error(new Error('it broke'));
    expect(written).toEqual(['nbdfuse: it broke\n']);
  });

  it('about an error has stack and cause when verbose', () => {
    const { written, report } = record(true);
    report.error(new Error('it broke', { cause: new Error('rust') }));
    expect(written[0]).toBe('nbdfuse: it broke\n');
    expect(written[1]).toMatch(/^nbdfuse: at .*report\.test\.ts/);
    expect(written.at(-1)).toBe('nbdfuse: caused by rust\n');
  });

  it('about something thrown that is no error says what it is', () => {
    const { written, report } = record(false);
    report.error('oops');
    report.error(new TypeError(''));
    expect(written).toEqual(['nbdfuse: oops\n', 'nbdfuse: TypeError\n']);
  });
});
