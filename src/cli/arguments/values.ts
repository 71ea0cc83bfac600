// Checks the numbers and words that options and modes accept. Pure.
//
// Called by options.ts and server-mode.ts. Each function that reads a value throws UsageError with a line that names the
// option, the given value and the allowed values.

import { printable } from '../../nbd/text.js';
import { UsageError } from '../errors.js';

/** Longest time that an option accepts, in seconds: the limit of a timer. */
const MAXIMUM_SECONDS = 2_000_000;

/** A whole number in decimal digits from `minimum` to `maximum`. */
export function wholeNumber(option: string, text: string, minimum: number, maximum: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value >= minimum && value <= maximum) return value;
  throw new UsageError(`${option} ${printable(text)}: must be a whole number from ${minimum} to ${maximum}`);
}

function seconds(option: string, text: string, allowed: string): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (value <= MAXIMUM_SECONDS) return Math.round(value * 1000);
  throw new UsageError(`${option} ${printable(text)}: must be ${allowed}`);
}

/** Seconds, with a fraction if wanted, as milliseconds. */
export function milliseconds(option: string, text: string): number {
  return seconds(option, text, `a number of seconds from 0 to ${MAXIMUM_SECONDS}`);
}

/** Seconds as milliseconds, or Infinity for the word `forever`. */
export function millisecondsOr(option: string, endless: 'forever' | 'never', text: string): number {
  if (text === endless) return Number.POSITIVE_INFINITY;
  return seconds(option, text, `a number of seconds from 0 to ${MAXIMUM_SECONDS}, or ${endless}`);
}

/** Factors of the letters behind a size. */
const SIZE_LETTERS = 'KMGT';

/** Bytes: a number, with K, M, G or T for powers of 1024. */
export function byteCount(option: string, text: string, minimum: number): number {
  const [, digits = '', letter = ''] = /^(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?$/i.exec(text) ?? [];
  const power = letter === '' ? 0 : SIZE_LETTERS.indexOf(letter.toUpperCase()) + 1;
  const value = digits === '' ? Number.NaN : Math.floor(Number(digits) * 1024 ** power);
  if (value >= minimum && Number.isSafeInteger(value)) return value;
  const least = minimum >= 1024 ** 2 ? `${minimum / 1024 ** 2}M` : String(minimum);
  throw new UsageError(
    `${option} ${printable(text)}: must be a size of at least ${least}, such as 500M or 20G`,
  );
}

/** The error for an option that takes no value, and has one. */
export function superfluousValue(option: string): UsageError {
  return new UsageError(`option ${option} takes no value: write ${option}`);
}

/** One of `choices`. */
export function choice<T extends string>(option: string, text: string, choices: readonly T[]): T {
  const found = choices.find((one) => one === text);
  if (found !== undefined) return found;
  throw new UsageError(`${option} ${printable(text)}: must be one of ${choices.join(', ')}`);
}
