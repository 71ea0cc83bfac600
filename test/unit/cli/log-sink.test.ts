import { expect, it, vi } from 'vitest';
import {
  bothSinks,
  fileSink,
  isJournal,
  journalSink,
  streamSink,
  syslogSink,
} from '../../../src/cli/log-sink.js';
import { createReport } from '../../../src/cli/report.js';

const OPTIONS = { verbose: true, logFormat: 'text' } as const;

/** Reports one message of each kind to a sink that writes into the returned list. */
function report(
  make: (write: (text: string) => void) => Parameters<typeof createReport>[1],
  logFormat: 'text' | 'json' = 'text',
) {
  const written: string[] = [];
  const all = createReport(
    { ...OPTIONS, logFormat },
    make((text) => written.push(text)),
  );
  all.line('https://host/d?sig=abc is slow');
  all.line('it is back', 'info');
  all.detail('thread \x1b[2J');
  all.error('lost');
  all.serverSaid(Buffer.from('nbdkit: err'));
  all.serverSaid(Buffer.from('or: \x1bhttps://me:pw@host/d\nrest'));
  return written;
}

it('journald: lines begin with their priority, and those of a server are whole', () => {
  expect(report(journalSink)).toEqual([
    '<4>nbdfuse: https://host/d?sig=… is slow\n',
    '<6>nbdfuse: it is back\n',
    '<7>nbdfuse: thread \\x1b[2J\n',
    '<3>nbdfuse: lost\n',
    '<6>nbdkit: error: \\x1bhttps://me:…@host/d\n',
  ]);
});

it('syslog: messages have facility, priority, local time, name and pid', () => {
  vi.useFakeTimers({ now: new Date(2026, 10, 8, 9, 5, 59) });
  try {
    expect(report((write) => syslogSink(write, 7))).toEqual([
      '<28>Nov  8 09:05:59 nbdfuse[7]: https://host/d?sig=… is slow',
      '<30>Nov  8 09:05:59 nbdfuse[7]: it is back',
      '<31>Nov  8 09:05:59 nbdfuse[7]: thread \\x1b[2J',
      '<27>Nov  8 09:05:59 nbdfuse[7]: lost',
      '<30>Nov  8 09:05:59 nbdfuse[7]: nbdkit: error: \\x1bhttps://me:…@host/d',
    ]);
  } finally {
    vi.useRealTimers();
  }
});

it('log file: lines have their time, once', () => {
  expect(report(fileSink)[0]).toMatch(/^\d{4}-\d\d-\d\dT\S+Z nbdfuse: https:\/\/host\/d\?sig=… is slow\n$/);
  expect(report(fileSink, 'json')[0]).toMatch(/^\{"time":"\S+","level":"warning",.*\}\n$/);
});

it('messages: go to two places while the file is not ready', () => {
  const written: string[] = [];
  const sink = bothSinks(
    streamSink((text) => written.push(`a ${text}`)),
    streamSink((text) => written.push(`b ${text}`)),
  );
  sink.line('text', 'info');
  expect(written).toEqual(['a text\n', 'b text\n']);
});

it('journald: is standard error if the environment names that file', () => {
  expect(isJournal({ JOURNAL_STREAM: '8:9' }, { dev: 8, ino: 9 })).toBe(true);
  expect(isJournal({ JOURNAL_STREAM: '8:90' }, { dev: 8, ino: 9 })).toBe(false);
  expect(isJournal({}, { dev: 8, ino: 9 })).toBe(false);
});
