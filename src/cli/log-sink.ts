// The places for messages: a stream such as standard error, journald, a file, and syslog. Pure but for `write`.
//
// Used by report.ts, which makes the lines, and by log-target.ts, which chooses the place.

import type { LogLevel } from '../linux/log-line.js';

/** A place for messages. */
export interface LogSink {
  /** Writes a line, which has no line end. */
  line(line: string, level: LogLevel): void;
  /** Writes a part of a server's output, which may end within a line; undefined where only lines are possible. */
  readonly part: ((text: string) => void) | undefined;
}

/** The priorities of syslog(3). */
const PRIORITY: Readonly<Record<LogLevel, number>> = { error: 3, warning: 4, info: 6, debug: 7, trace: 7 };

/** The facility LOG_DAEMON of syslog(3). */
const DAEMON = 3 << 3;

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

const PROGRAM = 'nbdfuse: ';

/** Plain lines. */
export function streamSink(write: (text: string) => void): LogSink {
  return { line: (line) => write(`${line}\n`), part: write };
}

/** Lines that begin with their priority, as systemd takes them from standard error: see sd-daemon(3). */
export function journalSink(write: (text: string) => void): LogSink {
  return { line: (line, level) => write(`<${PRIORITY[level]}>${line}\n`), part: undefined };
}

/** Lines with their time; those of --log-format=json have it already. */
export function fileSink(write: (text: string) => void): LogSink {
  const time = (line: string): string => (line.startsWith('{') ? '' : `${new Date().toISOString()} `);
  return { line: (line) => write(`${time(line)}${line}\n`), part: undefined };
}

/** The time as the C library writes it for syslog: `Nov  8 09:50:59`. */
function syslogTime(now: Date): string {
  const two = (number: number): string => String(number).padStart(2, '0');
  const day = String(now.getDate()).padStart(2);
  return `${MONTHS[now.getMonth()]} ${day} ${two(now.getHours())}:${two(now.getMinutes())}:${two(now.getSeconds())}`;
}

/** Messages as syslog(3) sends them (RFC 3164). @param send sends one datagram */
export function syslogSink(send: (text: string) => void, pid: number): LogSink {
  const line = (text: string, level: LogLevel): void => {
    const message = text.startsWith(PROGRAM) ? text.slice(PROGRAM.length) : text;
    send(`<${DAEMON | PRIORITY[level]}>${syslogTime(new Date())} nbdfuse[${pid}]: ${message}`);
  };
  return { line, part: undefined };
}

/** Each line in two places. */
export function bothSinks(one: LogSink, other: LogSink): LogSink {
  const line = (text: string, level: LogLevel): void => {
    one.line(text, level);
    other.line(text, level);
  };
  return { line, part: undefined };
}

/** Whether a file is journald, as the environment names it: see systemd.exec(5). */
export function isJournal(
  { JOURNAL_STREAM: journal }: NodeJS.ProcessEnv,
  { dev, ino }: { readonly dev: number; readonly ino: number },
): boolean {
  return journal === `${dev}:${ino}`;
}
