// One line of --log-format=json. Pure.
//
// Used by the report of the main thread and by the trace of the worker.

/** How the lines on standard error are written. */
export type LogFormat = 'text' | 'json';

/** How much a line matters. */
export type LogLevel = 'error' | 'warning' | 'info' | 'debug' | 'trace';

/** What a line tells besides its time, level and event; what is undefined is left out. */
export type LogFields = Readonly<Record<string, LogValue | undefined>>;

/** A bigint is written as a number, which may be too large for a double. */
export type LogValue = string | number | boolean | bigint | object;

/** One object in one line, with its end: `time` (UTC, ISO 8601), `level`, `event`, and `fields`. */
export function jsonLine(level: LogLevel, event: string, fields: LogFields, now = new Date()): string {
  const members = Object.entries({ time: now.toISOString(), level, event, ...fields })
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `"${name}":${typeof value === 'bigint' ? value : JSON.stringify(value)}`);
  return `{${members.join(',')}}\n`;
}
