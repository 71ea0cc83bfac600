// A part of another input.

import type { Input } from '../contract/coding.js';

/** The bytes of `input` from `offset` on. @throws Error when the input is too short */
export function rangedInput(input: Input, { offset, length }: { offset: number; length: number }): Input {
  if (offset + length > input.size) throw new Error('the part lies behind the end of the file');
  return {
    size: length,
    parallel: input.parallel,
    read: (at, count) => input.read(offset + at, count),
    close: () => input.close(),
  };
}
