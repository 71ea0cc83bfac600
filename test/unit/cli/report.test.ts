import { describe, expect, it } from 'vitest';
import { streamSink } from '../../../src/cli/log-sink.js';
import { createReport } from '../../../src/cli/report.js';
import type { LogFormat } from '../../../src/linux/log-line.js';
import { tryProgram } from '../../support/run/command.js';

function record(verbose: boolean, logFormat: LogFormat = 'text') {
  const written: string[] = [];
  const report = createReport(
    { verbose, logFormat },
    streamSink((text) => written.push(text)),
  );
  return { written, report };
}

describe('messages', () => {
  it('are one line after the name of the program', () => {
    const { written, report } = record(false);
    report.line('dir: not found');
    expect(written).toEqual(['nbdfuse: dir: not found\n']);
  });

  it('show control characters as escapes', () => {
    const { written, report } = record(false);
    report.line('the server said \x1b[2Jhello\nnbdfuse: all is well');
    expect(written).toEqual(['nbdfuse: the server said \\x1b[2Jhello\\nnbdfuse: all is well\n']);
  });

  it('end at 4096 bytes', () => {
    const { written, report } = record(false);
    report.line('x'.repeat(10_000));
    expect(written[0]?.length).toBe('nbdfuse: '.length + 4096 + '…\n'.length);
  });

  it('about details appear only with -v', () => {
    for (const verbose of [false, true]) {
      const { written, report } = record(verbose);
      report.detail('connecting');
      expect(written).toEqual(verbose ? ['nbdfuse: connecting\n'] : []);
    }
  });

  it.each([
    ['spawn /bin/sh EMFILE', '; raise the limit of open files: ulimit -n 1024'],
    ['pipe2: Too many open files', '; raise the limit of open files: ulimit -n 1024'],
    ['socket: Too many open files in system', '; raise the limit of the system: sysctl fs.file-max'],
    ['no such file', ''],
  ])('about "%s" have the next step', (message, step) => {
    const { written, report } = record(false);
    report.error(new Error(message));
    expect(written).toEqual([`nbdfuse: ${message}${step}\n`]);
  });

  it('hide passwords and tokens of URLs, also in the output of servers', () => {
    const { written, report } = record(false);
    report.line('https://me:pw@host/d?sig=abc is raw');
    report.serverSaid(Buffer.from('nbdkit: error: [https://host/d?sig=abc]: Not Found\n'));
    expect(written).toEqual([
      'nbdfuse: https://me:…@host/d?sig=… is raw\n',
      'nbdkit: error: [https://host/d?sig=…]: Not Found\n',
    ]);
  });

  it('about an error have no stack', () => {
    const { written, report } = record(false);
    report.error(new Error('it broke'));
    expect(written).toEqual(['nbdfuse: it broke\n']);
  });

  it('about an error have stack and cause with -v', () => {
    const { written, report } = record(true);
    report.error(new Error('it broke', { cause: new Error('rust') }));
    expect(written[0]).toBe('nbdfuse: it broke\n');
    expect(written[1]).toMatch(/^nbdfuse: at .*report\.test\.ts/);
    expect(written.at(-1)).toBe('nbdfuse: caused by rust\n');
  });

  it('about a thrown value that is no error show the value', () => {
    const { written, report } = record(false);
    report.error('oops');
    report.error(new TypeError(''));
    expect(written).toEqual(['nbdfuse: oops\n', 'nbdfuse: TypeError\n']);
  });
});

describe('--log-format=json', () => {
  const objectsOf = (written: readonly string[]): Record<string, unknown>[] =>
    written.map((line) => JSON.parse(line));

  it('prints every line as an object with its time, level and text', () => {
    const { written, report } = record(true, 'json');
    report.line('the server is lost');
    report.line('reconnected', 'info');
    report.detail('connections=1');
    report.error('it "broke"\nhere');
    const objects = objectsOf(written);
    expect(objects.map(({ level, event, text }) => [level, event, text])).toEqual([
      ['warning', 'message', 'the server is lost'],
      ['info', 'message', 'reconnected'],
      ['debug', 'message', 'connections=1'],
      ['error', 'message', 'it "broke"\\nhere'],
    ]);
    for (const { time } of objects) expect(time).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  });

  it('splits the output of a server into lines, however it arrives', () => {
    const { written, report } = record(false, 'json');
    for (const piece of ['one\ntw', 'o\nth', 'ree\n', 'x'.repeat(5000)])
      report.serverSaid(Buffer.from(piece));
    const texts = objectsOf(written).map(({ event, text }) => [event, text]);
    expect(texts).toEqual([...['one', 'two', 'three', 'x'.repeat(4096)].map((text) => ['server', text])]);
  });

  it('prints an error of the command line as an object', async () => {
    const { stderr } = await tryProgram('node', 'bin/nbdfuse', '--log-format=json', '--no-such-option');
    const [object] = objectsOf(stderr.trimEnd().split('\n'));
    expect([object.level, object.text]).toEqual([
      'error',
      "unknown option '--no-such-option'; see nbdfuse --help",
    ]);
  });
});
