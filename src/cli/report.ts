// Messages to the user: one line each on standard error, `nbdfuse: what failed: why`, or with
// --log-format=json one object each.
//
// Used by main.ts and, as the interface Report, by the session. Never throws: when standard error is closed, messages
// are lost and work goes on. Writes synchronously, so that a message is out before the process ends.

import { jsonLine, type LogFields, type LogFormat, type LogLevel } from '../linux/log-line.js';
import { withoutSecrets } from '../nbd/secrets.js';
import { printable, printableJson, printableSink } from '../nbd/text.js';
import type { Report } from '../session/settings.js';
import { statusText } from '../session/status-text.js';
import { withFormerNames } from '../worker/contract/former-names.js';
import { Lines } from './commands/lines.js';
import type { LogSink } from './log-sink.js';
import { stderrSink } from './log-target.js';
import { plainText } from './plain-text.js';

/** Maximum bytes of a message. */
const LINE_LIMIT = 4096;

/** How to write messages. */
export interface ReportOptions {
  /** With details. */
  readonly verbose: boolean;
  readonly logFormat: LogFormat;
}

/** A text as one line for a person. */
function lineOf(text: string): string {
  return printable(withoutSecrets(text), LINE_LIMIT);
}

/** A report that writes lines to `sink`, and details when `verbose`. */
export function createReport({ verbose, logFormat }: ReportOptions, sink: LogSink = stderrSink()): Report {
  const isJson = logFormat === 'json';
  const asText = (text: string, level: LogLevel): void => sink.line(`nbdfuse: ${lineOf(text)}`, level);
  const asJson = (text: string, level: LogLevel, event = 'message'): void =>
    sink.line(jsonLine(level, event, { text: lineOf(text) }, new Date()).trimEnd(), level);
  const say = isJson ? asJson : asText;
  const detail = verbose ? (text: string): void => say(text, 'debug') : (): void => undefined;
  return {
    line: (text, level = 'warning') => say(text, level),
    detail,
    error: (error) => reportError((text) => say(text, 'error'), detail, error),
    serverSaid: serverOutput(sink, isJson ? (line) => asJson(line, 'info', 'server') : undefined),
    status: (path, status) => {
      const fields = (): LogFields => ({ path, ...withFormerNames(status) }) as LogFields;
      // A status is written as an object, not as text.
      if (isJson)
        sink.line(printableJson(jsonLine('info', 'status', fields(), new Date()).trimEnd()), 'info');
      else for (const text of statusText(path, status).trimEnd().split('\n')) asText(text, 'info');
    },
  };
}

/** Takes the output of a server. @param asJson writes a line of it, if lines have a form of their own */
function serverOutput(sink: LogSink, asJson: ((line: string) => void) | undefined): Report['serverSaid'] {
  const lines = new Lines(LINE_LIMIT, asJson ?? ((line) => sink.line(lineOf(line), 'info')));
  const parts = printableSink((text) => sink.part?.(withoutSecrets(text)));
  return (chunk) => {
    if (asJson === undefined && sink.part !== undefined) parts(chunk);
    else lines.take(chunk);
  };
}

/** The report to use before the command line is parsed. */
export function earlyReport(words: readonly string[]): Report {
  const isJson = words.some(
    (word, i) => word === '--log-format=json' || (word === '--log-format' && words[i + 1] === 'json'),
  );
  return createReport({ verbose: false, logFormat: isJson ? 'json' : 'text' });
}

/** The next step where each part of the program can fail. */
function adviceFor({ message }: Error): string {
  if (/EMFILE|too many open files(?! in system)/i.test(message))
    return '; raise the limit of open files: ulimit -n 1024';
  if (/ENFILE|too many open files in system/i.test(message))
    return '; raise the limit of the system: sysctl fs.file-max';
  return '';
}

function reportError(line: (text: string) => void, detail: (text: string) => void, error: unknown): void {
  if (!(error instanceof Error)) {
    line(String(error));
    return;
  }
  line(`${error.message === '' ? error.name : plainText(error)}${adviceFor(error)}`);
  for (const frame of (error.stack ?? '').split('\n').filter((text) => /^\s+at /.test(text))) {
    detail(frame.trim());
  }
  if (error.cause instanceof Error) detail(`caused by ${error.cause.message}`);
}
