// The input of an image whose source cannot be reached, while a cache file may still answer.

import { EIO } from '../../constants/errno.js';
import type { Input } from '../contract/coding.js';

const absent = new WeakSet<Input>();

/** An input of which no byte can be read. @param why in one line */
export function absentInput(size: number, why: string): Input {
  const refuse = (): Promise<never> => Promise.reject(Object.assign(new Error(why), { errno: EIO }));
  const input = { size, parallel: 1, read: refuse, close: () => Promise.resolve() };
  absent.add(input);
  return input;
}

/** Whether an input was made by `absentInput`. */
export const isAbsent = (input: Input): boolean => absent.has(input);
