// The lines of --log-format=json, for the main thread's report and the worker's trace. Pure.

/** Format of the lines on standard error. */
export type LogFormat = 'text' | 'json';

/** Severity of a line. */
export type LogLevel = 'error' | 'warning' | 'info' | 'debug' | 'trace';

/** Members of a line besides time, level and event; undefined ones are omitted. */
export type LogFields = Readonly<Record<string, LogValue | undefined>>;

/** A bigint becomes a number, which may be too large for a double. */
export type LogValue = string | number | boolean | bigint | object;

/** Makes a line, with its line end: an object with `time` (UTC, ISO 8601), `level`, `event`, and `fields`. */
export function jsonLine(level: LogLevel, event: string, fields: LogFields, now: Date): string {
  const members = Object.entries({ time: now.toISOString(), level, event, ...fields })
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `"${name}":${typeof value === 'bigint' ? value : JSON.stringify(value)}`);
  return `{${members.join(',')}}\n`;
}
