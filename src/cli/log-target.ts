// Chooses the place for messages: standard error, --log-file, and for a daemon the system's log.
//
// Used by main.ts. Until the file is ready, messages always go to standard error, where the user waits for them.

import { closeSync, fstatSync, openSync } from 'node:fs';
import { writeToDescriptor, writeToStderr } from '../linux/stderr.js';
import {
  bothSinks,
  fileSink,
  isJournal,
  journalSink,
  type LogSink,
  streamSink,
  syslogSink,
} from './log-sink.js';
import { plainText } from './plain-text.js';

const STDERR = 2;

/** The socket of syslogd(8) and of journald. */
const SYSLOG = '/dev/log';

/** Standard error: lines for a person, or for journald. */
export function stderrSink(): LogSink {
  return isStderrJournal() ? journalSink(writeToStderr) : streamSink(writeToStderr);
}

function isStderrJournal(): boolean {
  if (process.env.JOURNAL_STREAM === undefined) return false;
  try {
    return isJournal(process.env, fstatSync(STDERR));
  } catch {
    return false;
  }
}

/** The messages of a mount. */
export class LogTarget implements LogSink {
  #sink: LogSink;
  #file: number | undefined;

  /** @param path of --log-file @throws Error, one line, when it cannot be opened */
  constructor(path: string | undefined) {
    this.#sink = stderrSink();
    if (path === undefined) return;
    try {
      this.#file = openSync(path, 'a');
    } catch (error) {
      throw new Error(`cannot open the log file ${plainText(error as Error)}`, { cause: error });
    }
    const file = this.#file;
    this.#sink = bothSinks(
      this.#sink,
      fileSink((text) => writeToDescriptor(file, text)),
    );
  }

  line(...words: Parameters<LogSink['line']>): void {
    this.#sink.line(...words);
  }

  get part(): LogSink['part'] {
    return this.#sink.part;
  }

  /**
   * Lets the file of --log-file take the place of standard error, also for the trace; without one, a daemon's messages
   * go to the system's log unless standard error is journald or a file.
   */
  async becomeReady(isDaemon: boolean): Promise<void> {
    if (this.#file !== undefined) {
      const { libc } = await import('../linux/libc.js');
      libc.dup2(this.#file, STDERR);
      closeSync(this.#file);
      this.#file = undefined;
      this.#sink = fileSink(writeToStderr);
    } else if (isDaemon && !isStderrJournal() && !fstatSync(STDERR).isFile()) {
      const { sendDatagram } = await import('../linux/datagram.js');
      this.#sink = syslogSink((text) => {
        try {
          sendDatagram(SYSLOG, text);
        } catch {
          // Without a system log, or when it does not read, there is no place for the message.
        }
      }, process.pid);
    }
  }
}
